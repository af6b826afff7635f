//! Minified Lua scripts: without comments and indentation, which are a third of the sources.

/// Concatenates string literals of Lua and strips them at compile time: see `strip`.
macro_rules! lua {
    ($($part:expr),+ $(,)?) => {{
        const SOURCE: &[u8] = concat!($($part),+).as_bytes();
        const LEN: usize = $crate::redis::strip(SOURCE, &mut []);
        const STRIPPED: [u8; LEN] = {
            let mut stripped = [0; LEN];
            $crate::redis::strip(SOURCE, &mut stripped);
            stripped
        };
        // Stripping removes whole lines and leading spaces only, so the rest is still UTF-8.
        match str::from_utf8(&STRIPPED) {
            Ok(script) => script,
            Err(_) => "",
        }
    }};
}
pub(crate) use lua;

/// Writes a script to `room` without blank lines, indentation and comment lines, up to the length of `room`. Returns
/// the length of the stripped script in bytes. Multi-line strings (`[[`) are not supported.
pub(crate) const fn strip(mut script: &[u8], mut room: &mut [u8]) -> usize {
    let mut len: usize = 0;
    let (mut is_indent, mut is_comment) = (true, false);
    while let [byte, rest @ ..] = script {
        match (*byte, rest) {
            (b'\n', _) if is_indent => is_comment = false,
            (b' ', _) if is_indent => {}
            _ if is_comment => {}
            (b'-', [b'-', ..]) if is_indent => is_comment = true,
            _ => {
                is_indent = *byte == b'\n';
                len = len.saturating_add(1);
                if let [next, more @ ..] = room {
                    *next = *byte;
                    room = more;
                }
            }
        }
        script = rest;
    }
    len
}

#[cfg(test)]
mod tests {
    #[test]
    fn comment_lines_and_indentation_are_stripped() {
        let script =
            lua!("-- Adds µs.\n\nlocal a = 1 -- kept\n", "if a  then\n  -- Never.\n  a = a - -1\nend\n\nreturn '--'\n");
        assert_eq!(script, "local a = 1 -- kept\nif a  then\na = a - -1\nend\nreturn '--'\n");
    }

    #[test]
    fn a_script_without_a_last_line_break_is_whole() {
        assert_eq!(lua!("return 1"), "return 1");
        assert_eq!(lua!("return 1\n-- That was it."), "return 1\n");
    }
}
