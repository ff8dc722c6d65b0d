use super::*;

const EMPTY: Copy = Copy { log_end: Offset(0), last_epoch: LeaderEpoch::NONE };

fn copy(log_end: i64, last_epoch: i32) -> Copy {
    Copy { log_end: Offset(log_end), last_epoch: LeaderEpoch(last_epoch) }
}

fn end(offset: i64) -> Told {
    Told::End(Offset(offset))
}

fn lineage(end: i64, epoch: i32, epoch_end: i64) -> Told {
    Told::Lineage(Offset(end), Some((LeaderEpoch(epoch), Offset(epoch_end))))
}

/// What it is, the link, the copies, what is told, and what follows.
type Case<'a> = (&'a str, LinkSeen, &'a [Copy], &'a [Told], Verdict);

#[test]
fn by_table() {
    use Condition::{LinkActive, MirrorLag, SourceReachable};
    let silent = || Told::Silent("LEADER_NOT_AVAILABLE".to_owned());
    let waits = |waits: &[(Condition, &str)]| {
        let waits =
            waits.iter().map(|(condition, reason)| Wait { condition: *condition, reason: (*reason).to_owned() });
        Verdict::Waits(waits.collect())
    };
    let table: [Case<'_>; 16] = [
        ("nothing to mirror", LinkSeen::Up, &[EMPTY], &[end(0)], Verdict::InSync),
        (
            "began in the middle, empty",
            LinkSeen::Up,
            &[Copy { log_end: Offset(9), ..EMPTY }],
            &[end(9)],
            Verdict::InSync,
        ),
        ("offsets are equal", LinkSeen::Up, &[copy(5, 1)], &[end(5)], Verdict::AskLineage),
        ("a record came since", LinkSeen::Up, &[copy(6, 1)], &[end(5)], Verdict::AskLineage),
        ("lineages agree", LinkSeen::Up, &[copy(5, 1)], &[lineage(5, 1, 5)], Verdict::InSync),
        ("the epoch went on", LinkSeen::Up, &[copy(5, 1)], &[lineage(5, 1, 7)], Verdict::InSync),
        (
            "lag",
            LinkSeen::Up,
            &[copy(5, 1), copy(1, 1)],
            &[end(8), end(2)],
            waits(&[(MirrorLag, "4 records are not mirrored yet: partition 0, 1")]),
        ),
        (
            "lag of many",
            LinkSeen::Up,
            &[EMPTY; 5],
            &[end(1), end(1), end(1), end(1), end(1)],
            waits(&[(MirrorLag, "5 records are not mirrored yet: partition 0, 1, 2 and 2 more")]),
        ),
        (
            "the epoch ended before the copy does",
            LinkSeen::Up,
            &[copy(5, 1)],
            &[lineage(5, 1, 4)],
            waits(&[(MirrorLag, "the source has replaced the tail that the mirror holds: partition 0")]),
        ),
        (
            "the epoch never was",
            LinkSeen::Up,
            &[copy(5, 3)],
            &[lineage(5, 2, 5)],
            waits(&[(MirrorLag, "the source has replaced the tail that the mirror holds: partition 0")]),
        ),
        (
            "no epoch is known",
            LinkSeen::Up,
            &[copy(5, 3)],
            &[Told::Lineage(Offset(5), None)],
            waits(&[(MirrorLag, "the source has replaced the tail that the mirror holds: partition 0")]),
        ),
        (
            "one is in sync, one silent",
            LinkSeen::Unavailable,
            &[copy(5, 1), copy(5, 1)],
            &[end(5), silent()],
            waits(&[(SourceReachable, "the source does not answer: partition 1: LEADER_NOT_AVAILABLE")]),
        ),
        (
            "one lags, one is silent",
            LinkSeen::Up,
            &[copy(5, 1), copy(5, 1)],
            &[end(6), silent()],
            waits(&[
                (SourceReachable, "the source does not answer: partition 1: LEADER_NOT_AVAILABLE"),
                (MirrorLag, "1 records are not mirrored yet: partition 0"),
            ]),
        ),
        (
            "the source grew",
            LinkSeen::Up,
            &[copy(5, 1)],
            &[end(5), end(0)],
            waits(&[(MirrorLag, "the source has 2 partitions, the mirror 1")]),
        ),
        ("paused", LinkSeen::Paused, &[EMPTY], &[end(0)], waits(&[(LinkActive, "the link is paused")])),
        (
            "broken",
            LinkSeen::Failed,
            &[EMPTY],
            &[end(0)],
            waits(&[(SourceReachable, "the link has failed; its description says why")]),
        ),
    ];
    for (name, link, copies, told, expected) in table {
        assert_eq!(judge(link, copies, told), expected, "{name}");
    }
}
