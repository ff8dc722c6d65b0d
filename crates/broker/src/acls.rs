//! DescribeAcls, CreateAcls, DeleteAcls: the ACLs that the state keeps, as `kafka-acls` sees them (`AclApis` and
//! `AclControlManager`). What stands in `hawser.acls` of the daemon's file is not among them: no tool can remove it.

use crate::authorizer::CLUSTER_NAME;
use crate::dispatch::Caller;
use crate::{ApiError, Broker, Operation, Resource};
use hawser_state::{
    AclFilter, AclOperation, AclPatternType, AclPermission, AclRecord, AclResourceType, AclsChanged, PatternFilter,
};
use hawser_wire::messages::create_acls_request::AclCreation;
use hawser_wire::messages::create_acls_response::AclCreationResult;
use hawser_wire::messages::delete_acls_request::DeleteAclsFilter;
use hawser_wire::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use hawser_wire::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use hawser_wire::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse,
};
use hawser_wire::{ResponseError, StrBytes};
use tracing::{error, info};

/// ANY in every enum of a filter, MATCH in that of pattern types.
const ANY: i8 = 1;
const MATCH: i8 = 2;

impl Broker {
    pub(crate) fn describe_acls(&self, caller: &Caller, request: DescribeAclsRequest) -> DescribeAclsResponse {
        let asked = DeleteAclsFilter::default()
            .with_resource_type_filter(request.resource_type_filter)
            .with_resource_name_filter(request.resource_name_filter)
            .with_pattern_type_filter(request.pattern_type_filter)
            .with_principal_filter(request.principal_filter)
            .with_host_filter(request.host_filter)
            .with_operation(request.operation)
            .with_permission_type(request.permission_type);
        let filter = self.check_cluster(caller, Operation::Describe).and_then(|()| parse_filter(asked));
        let acls = match filter {
            Ok(filter) => self.state.acls(&filter),
            Err(error) => {
                return DescribeAclsResponse::default()
                    .with_error_code(error.code.code())
                    .with_error_message(Some(StrBytes::from_string(error.message)));
            }
        };
        let mut resources: Vec<DescribeAclsResource> = Vec::new();
        // They come in order: those of one pattern stand together.
        for acl in acls {
            let is_same = |last: &DescribeAclsResource| {
                last.resource_type == acl.resource_type.code()
                    && last.pattern_type == acl.pattern_type.code()
                    && *last.resource_name == *acl.resource_name
            };
            let entry = AclDescription::default()
                .with_principal(StrBytes::from_string(acl.principal))
                .with_host(StrBytes::from_string(acl.host))
                .with_operation(acl.operation.code())
                .with_permission_type(acl.permission.code());
            match resources.last_mut() {
                Some(last) if is_same(last) => last.acls.push(entry),
                _ => resources.push(
                    DescribeAclsResource::default()
                        .with_resource_type(acl.resource_type.code())
                        .with_pattern_type(acl.pattern_type.code())
                        .with_resource_name(StrBytes::from_string(acl.resource_name))
                        .with_acls(vec![entry]),
                ),
            }
        }
        DescribeAclsResponse::default().with_resources(resources)
    }

    pub(crate) async fn create_acls(&self, caller: &Caller, request: CreateAclsRequest) -> CreateAclsResponse {
        let allowed = self.check_cluster(caller, Operation::Alter);
        let parsed = request.creations.into_iter().map(|creation| allowed.clone().and_then(|()| parse_acl(creation)));
        let parsed: Vec<Result<AclRecord, ApiError>> = parsed.collect();
        let add = parsed.iter().filter_map(|acl| acl.as_ref().ok().cloned()).collect();
        let written = self.change_acls(caller, add, Vec::new()).await;
        let results = parsed.into_iter().map(|acl| match acl.and(written.clone()) {
            Ok(_) => AclCreationResult::default(),
            Err(error) => AclCreationResult::default()
                .with_error_code(error.code.code())
                .with_error_message(Some(StrBytes::from_string(error.message))),
        });
        CreateAclsResponse::default().with_results(results.collect())
    }

    pub(crate) async fn delete_acls(&self, caller: &Caller, request: DeleteAclsRequest) -> DeleteAclsResponse {
        let allowed = self.check_cluster(caller, Operation::Alter);
        let found = request.filters.into_iter().map(|filter| {
            let filter = allowed.clone().and_then(|()| parse_filter(filter))?;
            Ok(self.state.acls(&filter))
        });
        let found: Vec<Result<Vec<AclRecord>, ApiError>> = found.collect();
        let remove = found.iter().flatten().flatten().cloned().collect();
        let written = self.change_acls(caller, Vec::new(), remove).await;
        let results = found.into_iter().map(|found| match written.clone().and(found) {
            Ok(acls) => DeleteAclsFilterResult::default().with_matching_acls(acls.into_iter().map(matching).collect()),
            Err(error) => DeleteAclsFilterResult::default()
                .with_error_code(error.code.code())
                .with_error_message(Some(StrBytes::from_string(error.message))),
        });
        DeleteAclsResponse::default().with_filter_results(results.collect())
    }

    /// Whether the caller may do `operation` to the cluster.
    pub(crate) fn check_cluster(&self, caller: &Caller, operation: Operation) -> Result<(), ApiError> {
        if self.may(caller, operation, Resource::Cluster) {
            return Ok(());
        }
        let message = format!("not authorized: {} on the cluster is needed", operation.as_str());
        Err(ApiError::new(ResponseError::ClusterAuthorizationFailed, message))
    }

    async fn change_acls(
        &self,
        caller: &Caller,
        add: Vec<AclRecord>,
        remove: Vec<AclRecord>,
    ) -> Result<AclsChanged, ApiError> {
        let state = self.state.clone();
        let changed = match tokio::task::spawn_blocking(move || state.change_acls(&add, &remove)).await {
            Ok(Ok(changed)) => changed,
            Ok(Err(error)) => {
                error!(%error, "ACLs not written");
                return Err(ApiError::new(ResponseError::KafkaStorageError, "the ACLs could not be kept"));
            }
            Err(_) => return Err(ApiError::new(ResponseError::UnknownServerError, "the write was not finished")),
        };
        let principal = caller.principal.as_str();
        if changed != AclsChanged::default() {
            info!(principal, added = ?changed.added, removed = ?changed.removed, "ACLs changed");
        }
        Ok(changed)
    }
}

/// `AclApis.handleCreateAcls` and `AclControlManager.validateNewAcl`.
fn parse_acl(creation: AclCreation) -> Result<AclRecord, ApiError> {
    let invalid = |message: String| ApiError::new(ResponseError::InvalidRequest, message);
    let unknown = |what: &str, code: i8| invalid(format!("Invalid {what} {code}"));
    let resource_type = AclResourceType::of_code(creation.resource_type)
        .ok_or_else(|| unknown("resourceType", creation.resource_type))?;
    let pattern_type = AclPatternType::of_code(creation.resource_pattern_type)
        .ok_or_else(|| unknown("patternType", creation.resource_pattern_type))?;
    let operation =
        AclOperation::of_code(creation.operation).ok_or_else(|| unknown("operation", creation.operation))?;
    let permission = AclPermission::of_code(creation.permission_type)
        .ok_or_else(|| unknown("permissionType", creation.permission_type))?;
    if resource_type == AclResourceType::Cluster && *creation.resource_name != *CLUSTER_NAME {
        return Err(invalid(format!("The only valid name for the CLUSTER resource is {CLUSTER_NAME}")));
    }
    if creation.resource_name.is_empty() {
        return Err(invalid("Invalid empty resource name".into()));
    }
    if !creation.principal.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty()) {
        let principal = &creation.principal;
        return Err(invalid(format!(
            "Could not parse principal from `{principal}`: expected TYPE:NAME, as User:alice"
        )));
    }
    Ok(AclRecord {
        resource_type,
        pattern_type,
        resource_name: creation.resource_name.to_string(),
        principal: creation.principal.to_string(),
        host: creation.host.to_string(),
        operation,
        permission,
    })
}

fn parse_filter(asked: DeleteAclsFilter) -> Result<AclFilter, ApiError> {
    fn one<T>(what: &str, code: i8, of_code: impl Fn(i8) -> Option<T>) -> Result<Option<T>, ApiError> {
        match of_code(code) {
            None if code != ANY => {
                Err(ApiError::new(ResponseError::InvalidRequest, format!("Unknown {what} {code} in the filter")))
            }
            known => Ok(known),
        }
    }
    let pattern = match asked.pattern_type_filter {
        MATCH => PatternFilter::Match,
        code => one("patternType", code, AclPatternType::of_code)?.map_or(PatternFilter::Any, PatternFilter::Exactly),
    };
    let text = |text: Option<StrBytes>| text.map(|text| text.to_string());
    Ok(AclFilter {
        resource_type: one("resourceType", asked.resource_type_filter, AclResourceType::of_code)?,
        pattern,
        resource_name: text(asked.resource_name_filter),
        principal: text(asked.principal_filter),
        host: text(asked.host_filter),
        operation: one("operation", asked.operation, AclOperation::of_code)?,
        permission: one("permissionType", asked.permission_type, AclPermission::of_code)?,
    })
}

fn matching(acl: AclRecord) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_resource_type(acl.resource_type.code())
        .with_resource_name(StrBytes::from_string(acl.resource_name))
        .with_pattern_type(acl.pattern_type.code())
        .with_principal(StrBytes::from_string(acl.principal))
        .with_host(StrBytes::from_string(acl.host))
        .with_operation(acl.operation.code())
        .with_permission_type(acl.permission.code())
}
