//! Files that are none, pipes, documents, and places of syntax errors.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::{Folder, PLAIN, TESTS, log};

/// Commands that read a configuration, but for its name.
const READERS: [&[&str]; 4] =
    [&["check"], &["trace"], &["limits", "list", "--redis", "redis://127.0.0.1:1", "--config"], &["serve"]];

#[test]
fn devices_and_folders_are_refused() {
    let folder = Folder::new();
    for words in READERS {
        for (file, why) in
            [("/dev/zero", "a device"), ("/", "older"), ("/dev/null", "a device"), ("none", "o such file")]
        {
            let output = folder.weir(&[words, &[file]].concat()).output().unwrap();
            let text = log(&output) + &String::from_utf8_lossy(&output.stdout);
            let says = text.contains(why) || text.contains("directory");
            assert!(output.status.code() == Some(1) && says, "{words:?} {file}: {text}");
        }
    }
    for (file, why) in [("/dev/zero", "found a device"), ("/", "found a folder"), ("none", "cannot be read")] {
        let output = folder.weir(&["test", file]).output().unwrap();
        assert!(output.status.code() == Some(2) && log(&output).contains(why), "{file}: {}", log(&output));
    }
}

#[test]
fn pipes_are_read() {
    let folder = Folder::new();
    for (words, text) in [
        (&["check", "-"][..], PLAIN),
        (&["check", "/dev/stdin"], PLAIN),
        (&["trace", "-"], PLAIN),
        (&["trace", "/dev/stdin"], PLAIN),
        (&["test", "-"], TESTS),
        (&["test", "/dev/stdin"], TESTS),
    ] {
        let mut weir = folder.weir(words);
        let mut weir = weir.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        weir.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = weir.wait_with_output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", log(&output));
    }
    // What a shell makes of <(…).
    let fifo = folder.path("fifo.yaml");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let weir = folder.weir(&["check", "fifo.yaml"]).stdout(Stdio::piped()).spawn().unwrap();
    std::fs::write(&fifo, PLAIN).unwrap();
    assert!(weir.wait_with_output().unwrap().status.success());
}

#[test]
fn an_endless_pipe_is_refused() {
    let folder = Folder::new();
    let mut weir = folder.weir(&["check", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = weir.stdin.take().unwrap();
    let block = vec![b' '; 1 << 20];
    // The command stops reading.
    while pipe.write_all(&block).is_ok() {}
    let output = weir.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(1) && text.contains("more than 64 MiB"), "{text}");
}

#[test]
fn every_command_names_the_place_of_a_syntax_error() {
    let folder = Folder::new().with("bad.yaml", "admin:\n  a: 1\n  b: [1, 2\n");
    let folder = folder.with("bad.test.yaml", "configuration: bad.yaml\ntests: [{name: a, steps: [{request: {}}]}]\n");
    for words in READERS {
        let output = folder.weir(&[words, &["bad.yaml"]].concat()).output().unwrap();
        let text = log(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(1) && text.contains("bad.yaml:3:6: "), "{words:?}: {text}");
    }
    let output = folder.weir(&["test", "bad.test.yaml"]).output().unwrap();
    assert!(output.status.code() == Some(2) && log(&output).contains("bad.yaml:3:6: "), "{}", log(&output));
}

#[test]
fn the_first_document_counts_as_for_envoy() {
    let folder = Folder::new().with("two.yaml", &format!("{PLAIN}---\nadmin: [5]\n"));
    let output = folder.weir(&["trace", "two.yaml"]).output().unwrap();
    assert!(output.status.success(), "{}", log(&output));
}

#[test]
fn a_misspelt_field_is_none_of_envoys() {
    let folder = Folder::new();
    let folder =
        folder.with("misspelt.yaml", &PLAIN.replacen("stat_prefix", "stat_prefx: a\n          stat_prefix", 1));
    for command in ["serve", "trace"] {
        let output = folder.weir(&[command, "misspelt.yaml"]).output().unwrap();
        let text = log(&output);
        let expected = "stat_prefx: a field that Envoy does not have; did you mean `stat_prefix`?\n";
        assert!(!output.status.success() && text.contains("misspelt.yaml:10:11: "), "{text}");
        assert!(text.ends_with(expected), "{text}");
    }
}

#[test]
fn a_trace_of_a_listener_with_tls_alone_is_an_error() {
    let pair = "{certificate_chain: {inline_string: CHAIN}, private_key: {inline_string: KEY}}";
    let identity = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let quoted = |pem: String| format!("{pem:?}");
    let pair = pair
        .replace("CHAIN", &quoted(identity.cert.pem()))
        .replace("KEY", &quoted(identity.signing_key.serialize_pem()));
    let socket = format!(
        "- transport_socket: {{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
         common_tls_context: {{tls_certificates: {pair}}}}}}}\n      filters:"
    );
    let secure = PLAIN.replacen("- filters:", &socket, 1);
    let folder = Folder::new().with("secure.yaml", &secure);
    let output = folder.weir(&["trace", "secure.yaml"]).output().unwrap();
    let text = log(&output);
    assert!(!output.status.success() && text.contains("expected a listener without TLS"), "{text}");
    assert!(text.contains("every filter chain of the file has transport_socket (listeners: ingress)"), "{text}");
    // There is no other listener to name.
    assert!(text.contains("trace a copy of the file") && !text.contains("--listener"), "{text}");
    // Of several listeners, the first without TLS is taken.
    let second = PLAIN.split_once("listeners:\n").unwrap().1.replace("ingress", "plain");
    let folder = folder.with("both.yaml", &format!("{secure}{second}"));
    assert!(folder.weir(&["trace", "both.yaml"]).output().unwrap().status.success());
    let output = folder.weir(&["trace", "both.yaml", "--listener", "ingress"]).output().unwrap();
    let text = log(&output);
    assert!(text.contains("every filter chain of the listener `ingress` has transport_socket"), "{text}");
    assert!(text.ends_with("name another listener: --listener plain\n"), "{text}");
}

#[test]
fn control_characters_do_nothing_on_a_terminal() {
    let hostile = "a\u{1b}[31m\u{7}";
    let tests = TESTS.replace("name: one", "name: \"o\\e[31mne\\n\"").replace("status: 200", "status: 201");
    let folder = Folder::new().with("hostile.test.yaml", &tests);
    let folder = folder.with("hostile.yaml", &PLAIN.replace("name: ingress", "name: \"in\\egress\""));
    for words in [
        &["test", "hostile.test.yaml"][..],
        &["test", "hostile.test.yaml", "--filter", hostile],
        &["test", hostile],
        &["trace", "hostile.yaml", "-H", "x-a: \u{9b}31m"],
        &["trace", "hostile.yaml", "--listener", hostile],
        &["check", hostile],
        &["serve", hostile],
        &["limits", "list", "--config", hostile],
    ] {
        let output = folder.weir(words).output().unwrap();
        let text = log(&output) + &String::from_utf8_lossy(&output.stdout);
        let harmful = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
        assert!(!text.is_empty() && !text.contains(harmful), "{words:?}: {text:?}");
    }
}

#[test]
fn results_of_an_earlier_run_do_not_stay() {
    let folder = Folder::new().with("bad.test.yaml", "configuration: {}\ntests: []\n").with("report.xml", "old");
    for (words, code, part) in [
        (&["test", "bad.test.yaml"][..], 2, "<error message=\"bad.test.yaml:"),
        (&["test", "none.test.yaml"], 2, "cannot be read"),
        (&["test", "limits.test.yaml", "--filter", "no such"], 2, "no test&apos;s name contains"),
        (&["test", "limits.test.yaml"], 0, "<testcase name=\"one\""),
    ] {
        folder.path("report.xml").exists().then(|| std::fs::write(folder.path("report.xml"), "old").unwrap());
        let output = folder.weir(&[words, &["--junit", "report.xml"]].concat()).output().unwrap();
        let report = std::fs::read_to_string(folder.path("report.xml")).unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", log(&output));
        let part = part.replace("&apos;", "'");
        assert!(report.starts_with("<?xml") && report.contains(&part), "{words:?}: {report}");
    }
}
