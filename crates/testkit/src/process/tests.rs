use super::*;

fn sh(script: &str, folder: &Path) -> Process {
    Program::new("/bin/sh").args(["-c", script]).spawn("sh", &folder.join("out.log")).unwrap()
}

fn exists(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn gone_soon(pid: u32) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while exists(pid) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

#[test]
fn waits_for_a_line_and_reports_an_early_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = sh("echo one; echo 'two ready'; exec sleep 60", folder.path());
    assert_eq!(process.wait_for_line("ready", Duration::from_secs(10)).unwrap(), "two ready");
    drop(process);
    let mut process = sh("echo why it failed; exit 3", folder.path());
    let error = process.wait_for_line("ready", Duration::from_secs(10)).unwrap_err().to_string();
    assert!(error.contains("why it failed") && error.contains("exit status: 3"), "{error}");
}

#[test]
fn dropping_ends_the_children_of_the_child_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = sh("sleep 600 & echo pid $!; wait", folder.path());
    let line = process.wait_for_line("pid", Duration::from_secs(10)).unwrap();
    let grandchild: u32 = line.trim_start_matches("pid ").parse().unwrap();
    assert!(exists(grandchild));
    drop(process);
    assert!(gone_soon(grandchild));
}

#[test]
fn closing_the_pipe_ends_the_group_without_drop() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = sh("exec sleep 600", folder.path());
    assert!(process.is_running());
    drop(process.leash.take());
    let status = process.wait(Duration::from_secs(10)).unwrap();
    assert_eq!(status.signal(), Some(9));
}

#[test]
fn pauses_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let state = |p: &Process| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", p.pid())).unwrap();
        stat.rsplit_once(')').unwrap().1.trim().chars().next().unwrap()
    };
    let mut process = sh("trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done", folder.path());
    process.wait_for_line("up", Duration::from_secs(10)).unwrap();
    process.pause().unwrap();
    while state(&process) != 'T' {
        std::thread::sleep(POLL);
    }
    process.resume().unwrap();
    assert!(process.stop(Duration::from_secs(10)).unwrap().success());
}
