//! ACLs and users, as the stock tools make them.

use crate::common::{Bench, call, quick};
use hawser_state::{AclOperation, AclPatternType, AclPermission, AclResourceType};
use hawser_wire::messages::alter_user_scram_credentials_request::{ScramCredentialDeletion, ScramCredentialUpsertion};
use hawser_wire::messages::create_acls_request::AclCreation;
use hawser_wire::messages::delete_acls_request::DeleteAclsFilter;
use hawser_wire::messages::describe_user_scram_credentials_request::UserName;
use hawser_wire::messages::*;
use hawser_wire::{ResponseError, StrBytes};

/// ANY, and MATCH among pattern types.
const ANY: i8 = 1;
const MATCH: i8 = 2;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn grant(user: &str, operation: AclOperation, resource_type: AclResourceType, name: &str) -> AclCreation {
    AclCreation::default()
        .with_resource_type(resource_type.code())
        .with_resource_name(text(name))
        .with_resource_pattern_type(AclPatternType::Literal.code())
        .with_principal(text(&format!("User:{user}")))
        .with_host(text("*"))
        .with_operation(operation.code())
        .with_permission_type(AclPermission::Allow.code())
}

fn filter() -> DeleteAclsFilter {
    DeleteAclsFilter::default()
        .with_resource_type_filter(ANY)
        .with_pattern_type_filter(ANY)
        .with_operation(ANY)
        .with_permission_type(ANY)
        .with_resource_name_filter(None)
        .with_principal_filter(None)
        .with_host_filter(None)
}

fn codes(codes: impl IntoIterator<Item = i16>) -> Vec<Option<ResponseError>> {
    codes.into_iter().map(ResponseError::try_from_code).collect()
}

#[tokio::test]
async fn acls_are_made_listed_and_removed() {
    let bench = Bench::with(quick(), "super.users=User:root").await;
    bench.mirror("orders", 1);
    let (root, ann) = (bench.client_as("root").await, bench.client_as("ann").await);
    let sees = async || {
        let topics = call(&ann, &MetadataRequest::default().with_topics(None)).await.topics;
        topics.into_iter().map(|topic| topic.name.unwrap().to_string()).collect::<Vec<_>>()
    };
    assert!(sees().await.is_empty());

    let valid = grant("ann", AclOperation::Read, AclResourceType::Topic, "orders");
    let invalid = [
        valid.clone().with_resource_type(ANY),
        valid.clone().with_resource_pattern_type(MATCH),
        valid.clone().with_operation(ANY),
        valid.clone().with_permission_type(ANY),
        valid.clone().with_resource_name(text("")),
        valid.clone().with_resource_type(AclResourceType::Cluster.code()),
        valid.clone().with_principal(text("ann")),
    ];
    let group = grant("ann", AclOperation::All, AclResourceType::Group, "app-").with_resource_pattern_type(4);
    let creations = [valid.clone(), group].into_iter().chain(invalid).collect();
    let made = call(&root, &CreateAclsRequest::default().with_creations(creations)).await;
    let mut expected = vec![None; 2];
    expected.extend([Some(ResponseError::InvalidRequest); 7]);
    assert_eq!(codes(made.results.iter().map(|result| result.error_code)), expected);
    let message = made.results[7].error_message.as_ref().unwrap().to_string();
    assert_eq!(message, "The only valid name for the CLUSTER resource is kafka-cluster");
    assert_eq!(sees().await, ["orders"]);

    let all = DescribeAclsRequest::default()
        .with_resource_type_filter(ANY)
        .with_pattern_type_filter(MATCH)
        .with_operation(ANY)
        .with_permission_type(ANY)
        .with_resource_name_filter(Some(text("app-7")))
        .with_principal_filter(None)
        .with_host_filter(None);
    let found = call(&root, &all).await;
    assert_eq!((found.error_code, found.resources.len()), (0, 1));
    let resource = &found.resources[0];
    assert_eq!((resource.resource_type, resource.resource_name.as_str(), resource.pattern_type), (3, "app-", 4));
    assert_eq!((resource.acls[0].principal.as_str(), resource.acls[0].operation), ("User:ann", 2));
    let unknown = call(&root, &all.with_operation(99)).await;
    assert_eq!(codes([unknown.error_code]), [Some(ResponseError::InvalidRequest)]);

    let filters = vec![filter().with_principal_filter(Some(text("User:ann"))), filter().with_permission_type(77)];
    let removed = call(&root, &DeleteAclsRequest::default().with_filters(filters)).await.filter_results;
    assert_eq!((removed[0].error_code, removed[0].matching_acls.len()), (0, 2));
    assert_eq!(codes([removed[1].error_code]), [Some(ResponseError::InvalidRequest)]);
    assert!(sees().await.is_empty());
}

fn upsertion(name: &str, mechanism: i8, iterations: i32) -> ScramCredentialUpsertion {
    ScramCredentialUpsertion::default()
        .with_name(text(name))
        .with_mechanism(mechanism)
        .with_iterations(iterations)
        .with_salt(vec![7; 20].into())
        // What PBKDF2 makes of the password: any bytes will do where nobody logs in.
        .with_salted_password(vec![1; 64].into())
}

#[tokio::test]
async fn scram_users_are_validated_as_kafka_does() {
    let bench = Bench::with(quick(), "super.users=User:root").await;
    let root = bench.client_as("root").await;
    let alter = async |deletions, upsertions| {
        let request = AlterUserScramCredentialsRequest::default().with_deletions(deletions).with_upsertions(upsertions);
        let results = call(&root, &request).await.results;
        let shown = |result: &alter_user_scram_credentials_response::AlterUserScramCredentialsResult| {
            (result.user.to_string(), ResponseError::try_from_code(result.error_code))
        };
        results.iter().map(shown).collect::<Vec<_>>()
    };
    let delete = |name: &str| ScramCredentialDeletion::default().with_name(text(name)).with_mechanism(2);
    let upsertions = vec![
        upsertion("few", 1, 4095),
        upsertion("good", 2, 8192),
        upsertion("many", 2, 16385),
        upsertion("none", 9, 8192),
        upsertion("twice", 1, 8192),
        upsertion("twice", 2, 8192),
        upsertion("", 2, 8192),
    ];
    use ResponseError::{DuplicateResource, ResourceNotFound, UnacceptableCredential, UnsupportedSaslMechanism};
    let expected = [
        ("", Some(UnacceptableCredential)),
        ("few", Some(UnacceptableCredential)),
        ("gone", Some(ResourceNotFound)),
        ("good", None),
        ("many", Some(UnacceptableCredential)),
        ("none", Some(UnsupportedSaslMechanism)),
        ("twice", Some(DuplicateResource)),
    ];
    let expected = expected.map(|(user, error)| (user.to_owned(), error));
    assert_eq!(alter(vec![delete("gone")], upsertions).await, expected);

    let names = ["good", "gone", "good2", "good2"].map(|name| UserName::default().with_name(text(name)));
    let request = DescribeUserScramCredentialsRequest::default();
    let described = call(&root, &request.clone().with_users(Some(names.to_vec()))).await.results;
    let shown = codes(described.iter().map(|result| result.error_code));
    assert_eq!(shown, [Some(ResourceNotFound), None, Some(DuplicateResource)]);
    let info = &described[1].credential_infos[0];
    assert_eq!((info.mechanism, info.iterations), (2, 8192));
    assert_eq!(call(&root, &request.with_users(None)).await.results.len(), 1);
    assert_eq!(alter(vec![delete("good")], vec![]).await, [("good".to_owned(), None)]);
    // Salted and hashed: nothing of what was sent is kept.
    assert!(bench.state.scram_credentials().is_empty());
}

/// The password is salted by the client, as `kafka-configs` does; made, the user logs in at once; removed, it does not.
#[tokio::test]
async fn a_stored_user_logs_in_until_it_is_removed() {
    let bench = Bench::with(quick(), "super.users=User:root;User:dave").await;
    let root = bench.client_as("root").await;
    assert!(bench.log_in("SCRAM-SHA-512", "dave", "s3cret").await.is_err());
    // PBKDF2-HMAC-SHA512("s3cret", 20 times 0x07, 4096), by Python's hashlib.
    let salted = "492515c9710fe3af1ada7d2b22bc8517611d0a0888f863de94ea4e20bb062fbe938f3a22125b40532a21278a2d3bbcbd016a816cde124cf65374cc0afdc1cb02";
    let salted: Vec<u8> = (0..64).map(|at| u8::from_str_radix(&salted[2 * at..2 * at + 2], 16).unwrap()).collect();
    let credential = upsertion("dave", 2, 4096).with_salted_password(salted.into());
    let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![credential]);
    assert_eq!(call(&root, &request).await.results[0].error_code, 0);
    let dave = bench.log_in("SCRAM-SHA-512", "dave", "s3cret").await.unwrap();
    assert_eq!(call(&dave, &DescribeUserScramCredentialsRequest::default()).await.results.len(), 1);
    assert!(bench.log_in("SCRAM-SHA-512", "dave", "secret").await.is_err());
    assert!(bench.log_in("SCRAM-SHA-256", "dave", "s3cret").await.is_err());
    let deletion = ScramCredentialDeletion::default().with_name(text("dave")).with_mechanism(2);
    let request = AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion]);
    assert_eq!(call(&root, &request).await.results[0].error_code, 0);
    assert!(bench.log_in("SCRAM-SHA-512", "dave", "s3cret").await.is_err());
}
