//! Commands of the pages, and their output. A block of code whose info string begins with `console run` has commands,
//! each after `$ `, and below each its output, in which `…` stands for any text.
//!
//! | info string | the commands run on |
//! |---|---|
//! | `console run` | envoy/quickstart.yaml with the page's last `yaml limits` and `yaml connection manager` before it |
//! | `console run FILE` | this file |
//! | `console run weir` | no host: `cargo weir check`, and `cargo weir render` or `helm template` piped into it |
//!
//! The first two run on the embedded host, with a Redis that is empty where the page begins to use a configuration. A block of
//! shell commands is one shell, in the root of the checkout. A block of `cargo weir limits` runs in this process.
//!
//! A block `python run FILE` is a program with the SDKs of OpenAI and Anthropic, and the block `text` below it its output.
//! The cluster `provider` of a file is a fake provider of language models.

use std::process::Command;

use serde_json::{Value, json};
use tokio::task::block_in_place;
use weir::{HostKind, Mesh, or_skip};
use weir_harness::{limits::Limits, provider, texts};
use weir_provision::{helm, python};

use crate::fragments::MANAGER;
use crate::page::{Page, pages, root};

const QUICKSTART: &str = "envoy/quickstart.yaml";
/// Address of the listener in the pages.
const INGRESS: &str = "127.0.0.1:10000";
/// Line between the outputs of two commands.
const NEXT: &str = "\u{1e}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_print_what_their_page_says() {
    let mut problems = Vec::new();
    let mut count = 0;
    for page in pages() {
        let Some(commands) = run(&page, &mut problems).await else { return };
        count += commands;
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= 15, "only {count} commands found");
}

/// Host and Redis of a page's commands.
struct Stage {
    file: String,
    /// The limits, where they are the page's.
    limits: Option<Value>,
    /// Fields of the HTTP connection manager.
    manager: Option<Value>,
    mesh: Mesh,
    _provider: provider::Upstream,
}

/// Runs the commands of a page, and returns their number. `None` if a component is missing, which is printed.
async fn run(page: &Page, problems: &mut Vec<String>) -> Option<usize> {
    let (mut limits, mut manager, mut count) = (None, None, 0);
    let mut stage: Option<Stage> = None;
    let fences = page.fences();
    for (nth, fence) in fences.iter().enumerate() {
        let yaml = || Some(serde_saphyr::from_str::<Value>(&fence.text).expect("YAML"));
        match fence.info {
            "yaml limits" => limits = yaml(),
            "yaml connection manager" => manager = yaml(),
            _ => {}
        }
        let program = fence.info.strip_prefix("python run");
        let Some(file) = program.or(fence.info.strip_prefix("console run")) else { continue };
        if file == " weir" {
            for (command, output) in commands(&fence.text) {
                count += 1;
                let found = block_in_place(|| checked(&command))?;
                if output != trimmed(&found) {
                    let place = format!("{}:{}", page.path, fence.line);
                    problems.push(format!("{place}: {command}\nexpected:\n{output}\nfound:\n{found}"));
                }
            }
            continue;
        }
        let file = if file.is_empty() { QUICKSTART } else { file.trim() };
        let [limits, manager] = [&limits, &manager].map(|it| it.clone().filter(|_| file == QUICKSTART));
        let is_of = |stage: &Stage| stage.file == file && stage.limits == limits && stage.manager == manager;
        if !stage.as_ref().is_some_and(is_of) {
            let provider = provider::start(([127, 0, 0, 1], 0).into()).await.expect("a free port");
            let mesh = Mesh::on(HostKind::Embedded, file).patient().configure(|filter| {
                if let Some(limits) = &limits {
                    filter["limits"] = limits.clone();
                }
            });
            let mesh = mesh.edit(|bootstrap| {
                let place = bootstrap.pointer_mut(MANAGER).and_then(Value::as_object_mut).expect("a manager");
                place.extend(manager.as_ref().and_then(Value::as_object).cloned().unwrap_or_default());
                let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters");
                if let Some(cluster) = clusters.iter_mut().find(|cluster| cluster["name"] == "provider") {
                    let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
                    cluster.pointer_mut(endpoint).expect("an address")["port_value"] = provider.addr().port().into();
                }
            });
            stage =
                Some(Stage { file: file.to_owned(), limits, manager, mesh: mesh.start().await?, _provider: provider });
        }
        let stage = stage.as_ref().expect("started above");
        if program.is_some() {
            count += 1;
            let output = fences.get(nth + 1).filter(|next| next.info == "text").expect("the program's output");
            let found = block_in_place(|| printed(&fence.text, stage))?;
            if !is_like(&output.text, &found) {
                let place = format!("{}:{}", page.path, fence.line);
                problems.push(format!("{place}: expected:\n{}\nfound:\n{found}", output.text));
            }
            continue;
        }
        let expected = commands(&fence.text);
        count += expected.len();
        let lines: Vec<&str> = expected.iter().map(|(command, _)| command.as_str()).collect();
        let found = block_in_place(|| outputs(&lines, stage));
        assert_eq!(found.len(), expected.len(), "{}:{}: {found:?}", page.path, fence.line);
        for ((command, output), found) in expected.iter().zip(found) {
            let found = trimmed(&found);
            if !is_like(output, &found) {
                let place = format!("{}:{}", page.path, fence.line);
                problems.push(format!("{place}: {command}\nexpected:\n{output}\nfound:\n{found}"));
            }
        }
    }
    Some(count)
}

/// Runs a Python program, and returns what it prints. `None` without its packages.
fn printed(program: &str, stage: &Stage) -> Option<String> {
    let mut python = or_skip(python::SDKS.python())?;
    let program = program.replace(INGRESS, &stage.mesh.ingress()[0].to_string());
    let output = python.args(["-c", &program]).output().expect("python3 runs");
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// Runs a command of a block `console run weir`, and returns what `weir check` prints. `None` without Helm.
fn checked(command: &str) -> Option<String> {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap_or_else(|why| panic!("{file}: {why}"));
    let Some(made) = command.strip_suffix(" | cargo weir check -") else {
        let file = command.strip_prefix("cargo weir check ").unwrap_or_else(|| panic!("{command} is not run"));
        return Some(texts::check(file, read(file).as_bytes()).text);
    };
    let words: Vec<&str> = made.split(' ').collect();
    let made = match words.as_slice() {
        ["cargo", "weir", "render", form, file] => texts::render(form, &read(file)).expect("the file has no mistake"),
        ["helm", arguments @ ..] => {
            let mut helm = Command::new(or_skip(helm::binary())?);
            let output = helm.args(arguments).current_dir(root()).output().expect("helm runs");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("text")
        }
        _ => panic!("{command} is not run"),
    };
    Some(texts::check("stdin", made.as_bytes()).text)
}

/// Commands and their outputs.
fn commands(text: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, output))) => output.extend([line, "\n"]),
            (None, None) => panic!("expected a command, found {line}"),
        }
    }
    commands.into_iter().map(|(command, output)| (command, trimmed(&output))).collect()
}

/// The text without carriage returns, and without white space at the ends of lines.
fn trimmed(text: &str) -> String {
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Whether a text is as expected, with any text for `…`.
fn is_like(expected: &str, found: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = found.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn outputs(commands: &[&str], stage: &Stage) -> Vec<String> {
    if commands.iter().all(|command| command.starts_with("cargo weir limits ")) {
        return commands.iter().map(|command| operator(command, stage)).collect();
    }
    let script: Vec<String> = commands.iter().map(|command| format!("{command}\necho '{NEXT}'\n")).collect();
    let script = script.concat().replace(INGRESS, &stage.mesh.ingress()[0].to_string());
    let output = Command::new("sh").args(["-c", &script]).current_dir(root()).output().expect("a shell");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.is_empty(), "{commands:?}: {error}");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut outputs: Vec<String> = text.split(&format!("{NEXT}\n")).map(str::to_owned).collect();
    assert_eq!(outputs.pop().as_deref(), Some(""), "the last command ends");
    outputs
}

/// Runs a command of `weir limits` on the Redis of the stage.
fn operator(command: &str, stage: &Stage) -> String {
    let key_prefix = stage.mesh.key_prefix();
    let configuration = json!({"redis": {"cluster": "redis", "key_prefix": key_prefix}, "limits": stage.limits});
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, configuration.to_string()).expect("the file is writable");
    let (url, path) = (stage.mesh.redis().url(), file.path().to_str().expect("text"));
    let words = command.split_whitespace().skip(3).map(|word| if word == QUICKSTART { path } else { word });
    let words: Vec<&str> = words.chain(["--redis", &url]).collect();
    let limits = Limits::parse(&words).expect("arguments");
    let mut output = Vec::new();
    limits.perform(&mut output, &mut Vec::new()).expect("the command works");
    String::from_utf8(output).expect("text").replace(key_prefix, "weir:")
}

#[test]
fn any_text_is_as_an_ellipsis() {
    assert!(is_like("a …\nb\n", "a 17 s\nb\n") && is_like("", "") && is_like("…", "abc") && is_like("a…b…c", "axbybc"));
    assert!(!is_like("a …\nb\n", "a 17 s\nc\n") && !is_like("a", "ab") && !is_like("a…b…c", "ac") && !is_like("", "a"));
}
