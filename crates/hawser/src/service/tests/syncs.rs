//! What the syncs of a link leave, take and say, with sources in memory.

use super::bed::*;
use super::*;
use crate::operations::MirrorAction;
use hawser_sync::Destination;
use hawser_wire::Offset;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_beyond_the_end_of_its_source_holds_no_promotion_up() {
    let bed = Bed::new().await;
    let broker = broker(&bed.service);
    bed.service.start_syncs(&broker).await;
    let all = r#"{"groupFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"}]}"#;
    bed.set(&[("consumer.offset.sync.enable", "true"), ("consumer.offset.group.filters", all)]).await;
    bed.create("t", 2).await;
    bed.caught_up("m-t", 50).await;
    bed.source.commit("g", "t", 0, 60);
    bed.source.commit("g", "t", 1, 20);
    // While the source lacks an answer for one partition, nothing is settled for any.
    bed.source.fail("t", 1, Some(NOT_LEADER));
    bed.alter(MirrorAction::Promote, &["m-t"]).await;
    bed.until("m-t", |view| condition(view, "SOURCE_REACHABLE")).await;
    bed.source.fail("t", 1, None);
    bed.until("m-t", |view| view.mirror_status == "STOPPED").await;
    let committed = bed.service.destination("l", "m-").committed(vec!["g".to_owned()]).await.unwrap();
    let at: Vec<_> = committed["g"].values().map(|committed| committed.offset).collect();
    assert_eq!(at, [Offset(50), Offset(20)], "the first stands at the end, as the source has no more");
}
