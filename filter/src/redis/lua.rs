//! Minified Lua scripts: without comments and needless spaces, which are half of the sources.

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
        // Stripping removes comments and spaces only, so the rest is still UTF-8.
        match str::from_utf8(&STRIPPED) {
            Ok(script) => script,
            Err(_) => "",
        }
    }};
}
pub(crate) use lua;

/// Writes a script to `room` without blank lines, comments and needless spaces, up to the length of `room`. Returns the
/// length of the stripped script in bytes. Not supported: strings in brackets (`[[`) and strings with backslashes.
pub(crate) const fn strip(mut script: &[u8], mut room: &mut [u8]) -> usize {
    let mut len: usize = 0;
    let (mut last, mut quote, mut is_comment) = (b'\n', None, false);
    while let [byte, rest @ ..] = script {
        script = rest;
        is_comment = match (*byte, rest) {
            (b'\n', _) => false,
            (b'-', [b'-', ..]) if quote.is_none() => true,
            _ => is_comment,
        };
        let is_blank = match *byte {
            b'\n' => last == b'\n',
            b' ' => quote.is_none() && !separates(last, rest),
            _ => false,
        };
        if is_comment || is_blank {
            continue;
        }
        quote = match (*byte, quote) {
            (b'\'' | b'"', None) => Some(*byte),
            (byte, Some(open)) if byte == open => None,
            _ => quote,
        };
        last = *byte;
        len = len.saturating_add(1);
        if let [next, more @ ..] = room {
            *next = *byte;
            room = more;
        }
    }
    len
}

/// Whether the tokens on both sides of a space would be others without it.
const fn separates(last: u8, rest: &[u8]) -> bool {
    const fn is_word(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || byte == b'_'
    }
    match (last, rest) {
        (_, [] | [b' ' | b'\n', ..]) | (b'\n', _) => false,
        // A comment, a number and a concatenation.
        (b'-', [b'-', ..]) | (b'.', _) | (_, [b'.', ..]) => true,
        (last, [next, ..]) => is_word(last) && is_word(*next),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn comments_and_indentation_are_stripped() {
        let script = lua!(
            "-- Adds µs.\n\nlocal a = 1 -- don't\n",
            "if a  then\n  -- Never.\n  a = a - -1\nend\n\nreturn '--'\n"
        );
        assert_eq!(script, "local a=1\nif a then\na=a- -1\nend\nreturn'--'\n");
    }

    #[test]
    fn only_spaces_that_separate_tokens_are_kept() {
        let script = lua!("f(a, 'b , c', { d = 1 .. 2 })\nif not a or b <= 1  and (c) then return end \n");
        assert_eq!(script, "f(a,'b , c',{d=1 .. 2})\nif not a or b<=1 and(c)then return end\n");
    }

    #[test]
    fn a_script_without_a_last_line_break_is_whole() {
        assert_eq!(lua!("return 1"), "return 1");
        assert_eq!(lua!("return 1\n-- That was it."), "return 1\n");
    }
}
