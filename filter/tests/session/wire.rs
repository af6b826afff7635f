//! Parser of RESP commands, for the Redis of the tests.

/// Removes all complete commands from the front of `bytes`. Panics at invalid RESP.
pub(crate) fn take_commands(bytes: &mut Vec<u8>) -> Vec<Vec<Vec<u8>>> {
    let (mut commands, mut taken) = (Vec::new(), 0);
    while let Some((command, length)) = command(&bytes[taken..]) {
        commands.push(command);
        taken += length;
    }
    bytes.drain(..taken);
    commands
}

fn command(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let (parts, mut at) = header(bytes, b'*')?;
    let mut command = Vec::new();
    for _ in 0..parts {
        let (length, head) = header(&bytes[at..], b'$')?;
        at += head;
        let part = bytes.get(at..at + length)?;
        assert_eq!(bytes.get(at + length..at + length + 2)?, b"\r\n");
        command.push(part.to_vec());
        at += length + 2;
    }
    Some((command, at))
}

fn header(bytes: &[u8], kind: u8) -> Option<(usize, usize)> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    assert_eq!(bytes[0], kind, "{}", bytes.escape_ascii());
    let count = std::str::from_utf8(&bytes[1..end]).unwrap().parse().unwrap();
    Some((count, end + 2))
}
