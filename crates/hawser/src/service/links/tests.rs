//! What a task shows, by its own last pass and by its link.

use super::*;
use hawser_sync::{Task, TaskError, TaskErrorCode};

fn status(state: TaskState) -> TaskStatus {
    TaskStatus {
        task: Task::AclSync,
        state,
        last_run_ms: Some(7),
        last_duration_ms: Some(3),
        runs: 5,
        changed: 4,
        examined: 2,
        errors: vec![TaskError::new(TaskErrorCode::PolicyViolation, "older")],
        skipped: 1,
        skipped_reasons: vec!["why".to_owned()],
    }
}

#[test]
fn a_task_shows_what_keeps_its_link() {
    use TaskState::{Active, InError, LinkFailed, LinkPaused, LinkUnavailable, NotConfigured};
    let states = [Active, InError, NotConfigured, LinkUnavailable, LinkFailed, LinkPaused];
    let shown = |link: &Liveness| states.map(|state| task_view(status(state), link).state);
    let own = states.map(|state| state.name());
    assert_eq!(shown(&Liveness::in_state(LinkState::Active, "NO_ERROR", None)), own);
    assert_eq!(shown(&Liveness::in_state(LinkState::Paused, "NO_ERROR", None)), own);
    let gone = Liveness::in_state(LinkState::Unavailable, "TIMEOUT_ERROR", Some("no answer".to_owned()));
    let away = "LINK_UNAVAILABLE";
    assert_eq!(shown(&gone), [away, away, "NOT_CONFIGURED", away, away, "LINK_PAUSED"]);
    let refused = Liveness::in_state(LinkState::Failed, "AUTHENTICATION_ERROR", Some("refused".to_owned()));
    let failed = "LINK_FAILED";
    assert_eq!(shown(&refused), [failed, failed, "NOT_CONFIGURED", failed, failed, "LINK_PAUSED"]);
}

#[test]
fn what_keeps_the_link_comes_before_what_the_last_pass_met() {
    let errors = |state, error, link| {
        let view = task_view(status(state), &Liveness::in_state(link, error, Some("away".to_owned())));
        view.errors.into_iter().map(|e| (e.error_code, e.error_message)).collect::<Vec<_>>()
    };
    let (of_pass, of_link) = (("POLICY_VIOLATION_ERROR", "older"), |code| (code, "away"));
    let told = |told: &[(&str, &str)]| told.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    for (error, code) in [
        ("TIMEOUT_ERROR", "UNKNOWN"),
        ("NO_ERROR", "UNKNOWN"),
        ("REMOTE_LINK_NOT_FOUND_ERROR", "REMOTE_LINK_NOT_FOUND_ERROR"),
    ] {
        assert_eq!(errors(TaskState::Active, error, LinkState::Unavailable), told(&[of_link(code), of_pass]));
    }
    for code in ["AUTHENTICATION_ERROR", "AUTHORIZATION_ERROR"] {
        assert_eq!(errors(TaskState::InError, code, LinkState::Failed), told(&[of_link(code), of_pass]));
    }
    // The pass has met it, too.
    assert_eq!(errors(TaskState::LinkUnavailable, "TIMEOUT_ERROR", LinkState::Unavailable), told(&[of_pass]));
    let view = task_view(status(TaskState::Active), &Liveness::in_state(LinkState::Active, "NO_ERROR", None));
    assert_eq!((view.last_run_ms, view.runs, view.changed, view.examined, view.skipped), (Some(7), 5, 4, 2, 1));
}
