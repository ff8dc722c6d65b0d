//! The binary as a script sees it: exit codes, what is on which stream.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn hawser(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hawser"))
        .args(args)
        .env_remove("HAWSER_BOOTSTRAP_SERVER")
        .env_remove("HAWSER_COMMAND_CONFIG")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("run hawser")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(dir: &tempfile::TempDir, name: &str, lines: &str) -> String {
    let path = dir.path().join(name);
    std::fs::File::create(&path).and_then(|mut f| f.write_all(lines.as_bytes())).expect("write");
    path.display().to_string()
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &["link"][..],
        &["link", "create"],
        &["link", "list"],
        &["mirror", "create", "t"],
        &["verify"],
        &["serve"],
        &["nonsense"],
        &["kafka-mirrors", "--list"],
        &["kafka-mirrors", "--bootstrap-server", "h:1", "--promote"],
        &["kafka-configs", "--bootstrap-server", "h:1", "--cluster-link", "l", "--alter"],
        &[],
    ] {
        let output = hawser(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_is_data_and_names_the_exit_codes() {
    let output = hawser(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for word in
        ["serve", "link", "mirror", "verify", "quickstart", "3 verify found a difference", "4 verify found none"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn without_a_daemon_a_command_says_why() {
    let output = hawser(&["link", "list"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""));
    assert!(text(&output.stderr).contains("--bootstrap-server is required (or HAWSER_BOOTSTRAP_SERVER)"));
    // Bound and never accepting would time out; closed refuses at once.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("port").port();
    let output = hawser(&["link", "list", "--bootstrap-server", &format!("127.0.0.1:{port}")]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).contains(&format!("connect to 127.0.0.1:{port}")), "{}", text(&output.stderr));
}

#[test]
fn a_bad_file_gives_all_its_errors_and_ends_with_1() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = file(&dir, "daemon.properties", "listeners=PLAINTEXT://127.0.0.1:0\nnode.id=x\n\nlog.dir=/data\n");
    for args in [&["serve", &path][..], &["serve", "--dump-config", &path]] {
        let output = hawser(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("{path}:2: node.id: expected a whole number")), "{said}");
        assert!(said.contains(&format!("{path}:4: log.dir: unknown key; did you mean log.dirs?")), "{said}");
        assert!(said.contains(&format!("{path}: log.dirs: required")), "{said}");
    }
}

#[test]
fn a_good_file_is_dumped_without_its_secrets() {
    let dir = tempfile::tempdir().expect("tempdir");
    let lines = "listeners=SASL_PLAINTEXT://127.0.0.1:0\nlog.dirs=/data\nsasl.enabled.mechanisms=PLAIN\n\
        listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_a=\"hunter2\";\n";
    let path = file(&dir, "daemon.properties", lines);
    let output = hawser(&["serve", "--dump-config", &path]);
    let dump = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(dump.contains("log.dirs=/data\n") && dump.contains("socket.request.max.bytes=16777216\n"), "{dump}");
    assert!(!dump.contains("hunter2"), "{dump}");
}

#[test]
fn a_link_files_errors_name_file_and_line_before_any_daemon_is_asked() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = file(&dir, "link.config", "link.mode=SOURCE\nconnection.mode=INBOUND\nbogus=1\n");
    let output = hawser(&["link", "create", "l", "--config-file", &path, "--bootstrap-server", "127.0.0.1:1"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("{path}:2: connection.mode: ")), "{said}");
    assert!(said.contains(&format!("{path}:3: bogus: ")), "{said}");
}

#[test]
fn what_needs_a_bidirectional_link_is_refused_by_name_before_any_daemon_is_asked() {
    for (verb, more) in [
        ("reverse-and-start", &["--dry-run"][..]),
        ("reverse-and-pause", &[]),
        ("truncate-and-restore", &["--include-partitions"]),
    ] {
        let words = [&["mirror", verb, "orders", "--link", "l"][..], more].concat();
        let flag = format!("--{verb}");
        let tool = ["kafka-mirrors", &flag, "--topics", "orders", "--link", "l", "--bootstrap-server", "127.0.0.1:1"];
        let (by_words, by_flags) = (hawser(&words), hawser(&tool));
        let said = text(&by_words.stderr);
        assert_eq!((by_words.status.code(), by_words.stdout.is_empty()), (Some(1), true), "{verb}: {said}");
        assert!(said.starts_with(&format!("Error: {verb} ")) && said.contains("one direction"), "{said}");
        assert_eq!((by_flags.status.code(), text(&by_flags.stderr)), (Some(1), said), "{verb}");
    }
}

#[test]
fn a_status_that_is_none_is_named_with_those_that_are() {
    let output = hawser(&["mirror", "list", "--mirror-status", "happy"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in ["'happy'", "--mirror-status", "PENDING_STOPPED", "LINK_FAILED"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // Known ones get as far as the daemon, in any case of letters.
    for known in ["active", "PENDING_RESTORE"] {
        let list = ["mirror", "list", "--bootstrap-server", "127.0.0.1:1", "--mirror-status", known];
        assert_eq!(hawser(&list).status.code(), Some(1), "{known}");
    }
}

#[test]
fn every_shell_gets_its_completions() {
    for (shell, sign) in [("bash", "complete -F"), ("zsh", "#compdef hawser"), ("fish", "complete -c hawser")] {
        let output = hawser(&["completion", shell]);
        let script = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{shell}: {}", text(&output.stderr));
        for word in [sign, "kafka-cluster-links", "promote", "bootstrap-server"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(hawser(&["completion", "cmd"]).status.code(), Some(2));
    // As before `| head -1`: nobody reads to the end.
    let mut completion = Command::new(env!("CARGO_BIN_EXE_hawser"));
    let mut child = completion.args(["completion", "bash"]).stdout(Stdio::piped()).spawn().expect("run");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("end").code(), Some(0));
}

#[test]
fn a_link_to_the_binary_is_the_tool_of_its_name() {
    let dir = tempfile::tempdir().expect("tempdir");
    for (tool, flag) in [
        ("kafka-cluster-links", "--exclude-validate-link"),
        ("kafka-mirrors", "--pending-stopped-only"),
        ("kafka-configs", "--cluster-link"),
    ] {
        let path = dir.path().join(tool);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hawser"), &path).expect("symlink");
        let by_name = Command::new(&path).arg("--help").output().expect("run");
        assert_eq!((by_name.status.code(), &by_name.stdout), (Some(0), &hawser(&[tool, "--help"]).stdout), "{tool}");
        assert!(text(&by_name.stdout).contains(flag), "{tool}");
        let wrong = Command::new(&path).arg("--nonsense").output().expect("run");
        assert_eq!((wrong.status.code(), wrong.stdout.is_empty()), (Some(2), true), "{tool}");
    }
}
