//! The daemon as its supervisor sees it: signals and its end.

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A recovery that never ends, as its checkpoint is a pipe into which nobody writes.
#[test]
fn sigterm_ends_a_daemon_that_recovers_its_log() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let data = dir.path().join("data");
    let pipe = data.join("recovery-point-offset-checkpoint");
    std::fs::create_dir(&data).expect("folder");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("pipe");
    let file = dir.path().join("serve.properties");
    let settings = format!("listeners=PLAINTEXT://127.0.0.1:0\nlog.dirs={}\n", data.display());
    std::fs::write(&file, settings).expect("settings");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_hawser"))
        .arg("serve")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("run hawser");
    let pid = Pid::from_child(&daemon);
    // Opens once the daemon is reading.
    let (opened, is_open) = mpsc::channel();
    std::thread::spawn(move || opened.send(OpenOptions::new().write(true).open(pipe)));
    let pipe = is_open.recv_timeout(LIMIT).expect("the daemon recovers").expect("pipe");
    kill_process(pid, Signal::TERM).expect("SIGTERM");
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(daemon.wait()));
    let end = end.recv_timeout(LIMIT);
    if end.is_err() {
        let _ = kill_process(pid, Signal::KILL);
    }
    assert!(end.expect("it ends").expect("status").success());
    drop(pipe);
}
