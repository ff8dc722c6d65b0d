//! `/clusters/{cluster_id}/links/{link_name}/configs`: a link's settings.

use super::answer::{Answer, List, Resource};
use super::{Asked, Error, segment, unexpected};
use crate::operations::{Alteration, LinkConfigView, Operation, Outcome};
use hawser_link::catalogue;
use serde::{Deserialize, Serialize};

/// `KafkaLinkConfigData`, with the spelling that older clients know beside the present one.
#[derive(Serialize)]
struct Config {
    cluster_id: String,
    name: String,
    /// Never null; empty for a secret.
    value: String,
    is_default: bool,
    is_read_only: bool,
    is_sensitive: bool,
    default: bool,
    read_only: bool,
    sensitive: bool,
    source: String,
    synonyms: Vec<String>,
    link_name: String,
}

/// `UpdateLinkConfigRequestData`
#[derive(Deserialize)]
struct Update {
    value: String,
}

/// `AlterConfigBatch`
#[derive(Deserialize)]
struct Batch {
    data: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    name: String,
    value: Option<String>,
    #[serde(default)]
    operation: Option<Kind>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Kind {
    Set,
    Delete,
}

/// `GET …/configs`
pub(super) async fn list(asked: Asked) -> Result<Answer, Error> {
    let configs = views(&asked).await?.into_iter().map(|config| resource(&asked, config)).collect();
    let at = asked.at(&format!("/links/{}/configs", segment(&asked.link())));
    Answer::json(&List::new("KafkaLinkConfigDataList", at, configs))
}

/// `GET …/configs/{config_name}`
pub(super) async fn get(asked: Asked) -> Result<Answer, Error> {
    let (name, link) = (config_name(&asked)?, asked.link());
    let found = views(&asked).await?.into_iter().find(|config| config.name == name);
    let found = found.ok_or_else(|| Error::not_found(format!("Cluster link '{link}' has no config '{name}'.")))?;
    Answer::json(&resource(&asked, found))
}

/// `PUT …/configs/{config_name}`
pub(super) async fn put(asked: Asked) -> Result<Answer, Error> {
    let Update { value } = asked.body()?;
    let change = Alteration { name: config_name(&asked)?, value: Some(value) };
    alter(&asked, vec![change], false).await
}

/// `DELETE …/configs/{config_name}`
pub(super) async fn delete(asked: Asked) -> Result<Answer, Error> {
    let change = Alteration { name: config_name(&asked)?, value: None };
    alter(&asked, vec![change], false).await
}

/// `PUT …/configs:alter`
pub(super) async fn alter_batch(asked: Asked) -> Result<Answer, Error> {
    let validate_only = asked.flag("validate_only", false)?;
    let Batch { data } = asked.body()?;
    let change = |Change { name, value, operation }: Change| match (operation.unwrap_or(Kind::Set), value) {
        _ if name.is_empty() => Err(Error::unreadable("Invalid Config Name.")),
        (Kind::Set, None) => Err(Error::unreadable(format!("{name}: SET takes a value."))),
        (Kind::Set, value) => Ok(Alteration { name, value }),
        (Kind::Delete, _) => Ok(Alteration { name, value: None }),
    };
    let changes = data.into_iter().map(change).collect::<Result<Vec<_>, _>>()?;
    if changes.is_empty() {
        return Err(Error::unreadable("data: expected at least one setting"));
    }
    alter(&asked, changes, validate_only).await
}

/// The path's setting.
///
/// # Errors
/// When no half of a link has one of that name.
fn config_name(asked: &Asked) -> Result<String, Error> {
    let name = asked.named("config_name");
    // `source.*` is taken, without effect.
    if catalogue::find(&name).is_some() || name.starts_with("source.") {
        return Ok(name);
    }
    Err(Error::unreadable(format!("Invalid Config Name. {name} {}", catalogue::unknown(&name))))
}

async fn alter(asked: &Asked, changes: Vec<Alteration>, validate_only: bool) -> Result<Answer, Error> {
    let operation = Operation::LinkAlterConfigs { link: asked.link(), changes, validate_only };
    match asked.operate(operation).await? {
        Outcome::LinkConfigsAltered { warnings } => Ok(Answer::no_content().warned(warnings)),
        _ => Err(unexpected()),
    }
}

async fn views(asked: &Asked) -> Result<Vec<LinkConfigView>, Error> {
    match asked.operate(Operation::LinkDescribeConfigs { link: asked.link() }).await? {
        Outcome::LinkConfigs { configs } => Ok(configs),
        _ => Err(unexpected()),
    }
}

fn resource(asked: &Asked, config: LinkConfigView) -> Resource<Config> {
    let at = asked.at(&format!("/links/{}/configs/{}", segment(&asked.link()), segment(&config.name)));
    let LinkConfigView { name, value, is_default, is_read_only, is_sensitive, source, synonyms } = config;
    let data = Config {
        cluster_id: asked.cluster_id.clone(),
        name,
        value: value.filter(|_| !is_sensitive).unwrap_or_default(),
        is_default,
        is_read_only,
        is_sensitive,
        default: is_default,
        read_only: is_read_only,
        sensitive: is_sensitive,
        source,
        synonyms,
        link_name: asked.link(),
    };
    Resource::new("KafkaLinkConfigData", at, data)
}
