//! The lives of links: how they are refused, changed and deleted, and what they leave behind.

use super::bed::*;
use super::*;
use crate::operations::MirrorAction;
use hawser_sync::Destination;

#[tokio::test(flavor = "multi_thread")]
async fn trying_out_new_settings_keeps_nobody_else_waiting() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let change =
        Alteration { name: "bootstrap.servers".to_owned(), value: Some(silent.local_addr().unwrap().to_string()) };
    let alter = Operation::LinkAlterConfigs { link: "l".to_owned(), changes: vec![change], validate_only: false };
    let service = bed.service.clone();
    let changing = tokio::spawn(async move { service.perform(alter).await });
    // Once the server that says nothing was dialled, the change is being tried out.
    let accepted = tokio::task::spawn_blocking(move || silent.accept().map(|(stream, _)| (silent, stream)));
    let _held = accepted.await.unwrap().unwrap();
    bed.alter(MirrorAction::Failover, &["m-t"]).await;
    assert_eq!(bed.mirror("m-t").await.mirror_status, "STOPPED");
    assert!(!changing.is_finished(), "the failover waited for the trial");
    changing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bidirectional_link_is_refused_by_name() {
    let bed = Bed::new().await;
    let address = bed.source.addresses()[0].to_string();
    let configs = [("bootstrap.servers", address.as_str()), ("link.mode", "bidirectional")];
    let create = Operation::LinkCreate {
        link: "both".to_owned(),
        configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        remote: None,
        validate_only: false,
        skip_remote_check: false,
    };
    let refusal = bed.service.perform(create).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unsupported);
    assert!(refusal.message.contains("BIDIRECTIONAL is not supported yet"), "{}", refusal.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_cannot_be_deleted_goes_on() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    bed.fill_disk();
    let delete =
        || bed.service.perform(Operation::LinkDelete { link: "l".to_owned(), force: true, validate_only: false });
    let refusal = delete().await.unwrap_err();
    assert!(refusal.message.contains("was not deleted and goes on"), "{refusal}");
    bed.source.append("t", 0, batch(50));
    bed.caught_up("m-t", 100).await;
    assert_eq!(bed.mirror("m-t").await.mirror_status, "ACTIVE");
    assert!(!bed.service.sync_status("l").is_empty(), "the syncs run");
    bed.make_room();
    assert!(matches!(delete().await, Ok(Outcome::LinkDeleted)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acl_goes_when_the_last_link_that_brought_it_takes_it_away() {
    let bed = Bed::new().await;
    let address = bed.source.addresses()[0].to_string();
    for (link, prefix) in [("a", "a-"), ("b", "b-")] {
        let configs = [("bootstrap.servers", address.as_str()), ("cluster.link.prefix", prefix)];
        let create = Operation::LinkCreate {
            link: link.to_owned(),
            configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            remote: None,
            validate_only: false,
            skip_remote_check: false,
        };
        bed.service.perform(create).await.unwrap();
    }
    let [a, b] = ["a", "b"].map(|link| bed.service.destination(link, ""));
    let acl = |name: &str| hawser_sync::Acl {
        resource_type: 2,
        resource_name: name.to_owned(),
        pattern_type: 3,
        principal: "User:ann".to_owned(),
        host: "*".to_owned(),
        operation: 3,
        permission: 3,
    };
    let here = || {
        let acls = bed.service.state.acls(&hawser_state::AclFilter::default());
        acls.into_iter().map(|acl| acl.resource_name).collect::<Vec<_>>()
    };
    let (shared, own) = (acl("shared"), acl("own"));
    a.change_acls(vec![shared.clone(), own.clone()], Vec::new()).await.unwrap();
    assert!(b.acls().made_here.is_empty(), "what another link brought is not this side's");
    b.change_acls(vec![shared.clone()], Vec::new()).await.unwrap();
    assert_eq!(b.acls().of_link, BTreeSet::from([shared.clone()]));
    a.change_acls(Vec::new(), vec![shared.clone()]).await.unwrap();
    assert_eq!((here(), a.acls().of_link), (vec!["own".to_owned(), "shared".to_owned()], BTreeSet::from([own])));
    b.change_acls(Vec::new(), vec![shared.clone()]).await.unwrap();
    assert_eq!(here(), ["own"]);

    // Who moved here needs them longer than the link.
    let delete = Operation::LinkDelete { link: "a".to_owned(), force: false, validate_only: false };
    bed.service.perform(delete).await.unwrap();
    assert_eq!((here(), b.acls().made_here.len()), (vec!["own".to_owned()], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_made_unseen_learns_its_source_cluster_and_keeps_to_it() {
    let bed = Bed::new().await;
    let address = bed.source.addresses()[0].to_string();
    let create = Operation::LinkCreate {
        link: "unseen".to_owned(),
        configs: [("bootstrap.servers".to_owned(), address)].into(),
        remote: None,
        validate_only: false,
        skip_remote_check: true,
    };
    bed.service.perform(create).await.unwrap();
    let known = || bed.service.state.link("unseen").and_then(|link| link.remote_cluster_id.clone());
    until("it is learnt", async || known().is_some()).await;
    assert_eq!(known().as_deref(), Some("fake-source"));
}
