//! Results for people (tables, columns as in the reference's CLI) and for machines (JSON, YAML).

use crate::cli::Output;
use crate::operations::{
    AlteredMirror, BehindView, LinkConfigView, LinkView, MirrorView, RefusalCode, TaskView, VerifyView, WaitView,
};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

const NO_LINKS: &str = "No cluster links found.";
const NO_MIRRORS: &str = "No mirror topics found.";

/// Prints `value` as JSON or YAML, or what `human` makes of it.
pub(crate) fn show<T: Serialize>(output: Output, value: &T, human: impl FnOnce(&T) -> String) -> String {
    match output {
        Output::Human => human(value),
        // Our own types always encode: no maps with keys that are not text.
        Output::Json => serde_json::to_string_pretty(value).unwrap_or_default(),
        Output::Yaml => serde_saphyr::to_string(value).unwrap_or_default().trim_end().to_owned(),
    }
}

/// `link list`.
pub(crate) fn links(links: &[LinkView]) -> String {
    listed(NO_LINKS, &LINK_COLUMNS, links.iter().map(link_row))
}

/// A link with one of its mirror topics; a link without any has one row.
#[derive(Serialize)]
pub(crate) struct LinkTopicRow<'a> {
    topic_name: &'a str,
    #[serde(flatten)]
    link: &'a LinkView,
}

/// The rows of `link list --include-topics`.
pub(crate) fn links_with_topics<'a>(links: &'a [LinkView], mirrors: &'a [MirrorView]) -> Vec<LinkTopicRow<'a>> {
    let mut rows = Vec::new();
    for link in links {
        let before = rows.len();
        let topics = mirrors.iter().filter(|mirror| mirror.link_name == link.link_name);
        rows.extend(topics.map(|mirror| LinkTopicRow { topic_name: &mirror.mirror_topic_name, link }));
        if rows.len() == before {
            rows.push(LinkTopicRow { topic_name: "", link });
        }
    }
    rows
}

/// `link list --include-topics`.
pub(crate) fn link_topics(rows: &[LinkTopicRow<'_>]) -> String {
    const TOPIC_COLUMN: usize = 2;
    let mut columns = LINK_COLUMNS.to_vec();
    columns.insert(TOPIC_COLUMN, "Topic Name");
    let row = |LinkTopicRow { topic_name, link }: &LinkTopicRow<'_>| {
        let mut row = link_row(link);
        row.insert(TOPIC_COLUMN, (*topic_name).to_owned());
        row
    };
    listed(NO_LINKS, &columns, rows.iter().map(row))
}

const LINK_COLUMNS: [&str; 8] =
    ["Name", "ID", "Source Cluster", "Destination Cluster", "Remote Cluster", "State", "Error", "Error Message"];

fn link_row(link: &LinkView) -> Vec<String> {
    vec![
        link.link_name.clone(),
        text(link.link_id.as_ref()),
        text(link.source_cluster.as_ref()),
        text(link.destination_cluster.as_ref()),
        text(link.remote_cluster.as_ref()),
        link.state.to_string(),
        shown_error(&link.error),
        text(link.error_message.as_ref()),
    ]
}

/// A setting with the reference's names of its fields.
#[derive(Serialize)]
pub(crate) struct LinkConfigRow<'a> {
    config_name: &'a str,
    config_value: Option<&'a str>,
    read_only: bool,
    sensitive: bool,
    source: &'a str,
    synonyms: &'a [String],
}

impl<'a> From<&'a LinkConfigView> for LinkConfigRow<'a> {
    fn from(config: &'a LinkConfigView) -> Self {
        Self {
            config_name: &config.name,
            config_value: config.value.as_deref(),
            read_only: config.is_read_only,
            sensitive: config.is_sensitive,
            source: &config.source,
            synonyms: &config.synonyms,
        }
    }
}

/// `link configuration list`: a setting a row.
pub(crate) fn link_configs(configs: &[LinkConfigRow<'_>]) -> String {
    let mut table = table(&["Config Name", "Config Value", "Read-Only", "Sensitive", "Source", "Synonyms"]);
    for config in configs {
        table.add_row([
            config.config_name.to_owned(),
            config.config_value.unwrap_or_default().to_owned(),
            config.read_only.to_string(),
            config.sensitive.to_string(),
            config.source.to_owned(),
            config.synonyms.join(", "),
        ]);
    }
    table.to_string()
}

/// `link task list`: a task a row.
pub(crate) fn link_tasks(tasks: &[TaskView]) -> String {
    let columns = ["Task Name", "State", "Errors", "Last Run Ms", "Runs", "Examined", "Changed", "Skipped"];
    let mut table = table(&columns);
    for task in tasks {
        let errors: Vec<_> = task.errors.iter().map(|e| format!("{}: {}", e.error_code, e.error_message)).collect();
        table.add_row([
            task.task_name.clone(),
            task.state.clone(),
            errors.join("\n"),
            last_run(task),
            task.runs.to_string(),
            task.examined.to_string(),
            task.changed.to_string(),
            task.skipped.to_string(),
        ]);
    }
    let skipped = tasks.iter().flat_map(|task| task.skipped_reasons.iter().map(move |why| (task, why)));
    let skipped = skipped.map(|(task, why)| format!("\nSkipped by {}: {why}", task.task_name));
    table.to_string() + &skipped.collect::<String>()
}

/// When the last run of `task` began, ms since 1970.
pub(crate) fn last_run(task: &TaskView) -> String {
    task.last_run_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string())
}

/// `mirror promote` and its likes: a partition a row; a mirror that was not changed has one row, with its error.
pub(crate) fn altered_mirrors(results: &[AlteredMirror]) -> String {
    if results.is_empty() {
        return NO_MIRRORS.to_owned();
    }
    let mut table = table(&[
        "Mirror Topic Name",
        "Partition",
        "Partition Mirror Lag",
        "Error Message",
        "Error Code",
        "Last Source Fetch Offset",
    ]);
    for result in results {
        let (message, code) = (text(result.error_message.as_ref()), result.error_code);
        let code = code.map_or_else(String::new, refusal_name);
        let mut row = |partition: String, lag: String, offset: String| {
            table.add_row([result.mirror_topic_name.clone(), partition, lag, message.clone(), code.clone(), offset]);
        };
        if result.mirror_lags.is_empty() {
            row("-1".to_owned(), "-1".to_owned(), "-1".to_owned());
        }
        for lag in &result.mirror_lags {
            row(lag.partition.to_string(), lag.lag.to_string(), lag.last_source_fetch_offset.to_string());
        }
    }
    table.to_string()
}

/// `link describe`: a property a row.
pub(crate) fn link(link: &LinkView) -> String {
    let mut table = table(&["Property", "Value"]);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("Name", link.link_name.clone());
    row("ID", text(link.link_id.as_ref()));
    row("Link Mode", link.link_mode.clone());
    row("Connection Mode", link.connection_mode.clone());
    row("Source Cluster", text(link.source_cluster.as_ref()));
    row("Destination Cluster", text(link.destination_cluster.as_ref()));
    row("Remote Cluster", text(link.remote_cluster.as_ref()));
    row("State", link.state.to_string());
    row("Error", shown_error(&link.error));
    row("Error Message", text(link.error_message.as_ref()));
    let ago = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms ago"));
    // A link that dials its source has no control connection, and a fetcher for itself.
    if let Some(connections) = link.connections {
        row("Last Beat", ago(link.last_beat_ms));
        row("Connections", connections.to_string());
    }
    if link.mirror_partition_states_count.is_some() {
        row("Last Fetch", ago(link.last_fetch_ms));
    }
    for member in &link.members {
        let beat = ago(member.last_beat_ms);
        row("Member", format!("{} (last beat {beat}, {} channels)", member.member, member.channels));
    }
    for task in link.tasks.iter().filter(|task| task.state != "NOT_CONFIGURED") {
        let error = task.errors.first().map(|e| format!(": {}", e.error_message)).unwrap_or_default();
        let (at, runs) = (last_run(task), task.runs);
        let counts = format!("{runs} runs, {} changes, {} skipped", task.changed, task.skipped);
        row(&task.task_name, format!("{}{error} (last run {at}, {counts})", task.state));
    }
    if let Some(states) = &link.mirror_partition_states_count {
        let states: Vec<_> = states.iter().map(|(state, count)| format!("{state}: {count}")).collect();
        row("Mirror Partition States Count", states.join("\n"));
    }
    for (name, value) in &link.configs {
        row(name, value.clone());
    }
    table.to_string()
}

/// `mirror list`.
pub(crate) fn mirrors(mirrors: &[MirrorView]) -> String {
    let columns = [
        "Link Name",
        "Mirror Topic Name",
        "Num Partition",
        "Max Per Partition Mirror Lag",
        "Source Topic Name",
        "Mirror Status",
        "Status Time Ms",
    ];
    let row = |mirror: &MirrorView| {
        vec![
            mirror.link_name.clone(),
            mirror.mirror_topic_name.clone(),
            mirror.num_partition.to_string(),
            mirror.max_per_partition_mirror_lag.to_string(),
            mirror.source_topic_name.clone(),
            mirror.mirror_status.clone(),
            mirror.status_time_ms.to_string(),
        ]
    };
    listed(NO_MIRRORS, &columns, mirrors.iter().map(row))
}

/// `mirror describe`: a partition a row.
pub(crate) fn mirror(mirror: &MirrorView) -> String {
    let mut table = table(&[
        "Link Name",
        "Mirror Topic Name",
        "Source Topic Name",
        "Mirror Status",
        "Mirror Topic Error",
        "Status Time (ms)",
        "Partition",
        "Partition Mirror Lag",
        "Lag Seconds",
        "Last Source Fetch Offset",
        "Log End Offset",
        "Source High Watermark",
        "Time Since Last Fetch Ms",
        "State",
        "Reason",
    ]);
    for partition in &mirror.partitions {
        table.add_row([
            mirror.link_name.clone(),
            mirror.mirror_topic_name.clone(),
            mirror.source_topic_name.clone(),
            mirror.mirror_status.clone(),
            text(mirror.mirror_topic_error.as_ref()),
            mirror.status_time_ms.to_string(),
            partition.partition.to_string(),
            partition.partition_mirror_lag.to_string(),
            partition.partition_mirror_lag_ms.map_or_else(|| "-".to_owned(), seconds),
            partition.last_source_fetch_offset.to_string(),
            partition.log_end_offset.to_string(),
            partition.last_source_high_watermark.to_string(),
            partition.time_since_last_fetch_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string()),
            partition.state.clone(),
            text(partition.reason.as_ref()),
        ]);
    }
    let waits = mirror.waits_for.iter().map(|wait| format!("\nWaits for {}: {}", wait.condition, wait.reason));
    table.to_string() + &waits.collect::<String>()
}

/// One thing that keeps a promotion from its end, with the reference's names of its fields.
#[derive(Serialize)]
pub(crate) struct StateTransitionErrorRow<'a> {
    error_code: &'a str,
    error_message: &'a str,
}

impl<'a> From<&'a WaitView> for StateTransitionErrorRow<'a> {
    fn from(wait: &'a WaitView) -> Self {
        Self { error_code: &wait.condition, error_message: &wait.reason }
    }
}

/// `mirror state-transition-error list`.
pub(crate) fn state_transition_errors(errors: &[StateTransitionErrorRow<'_>]) -> String {
    let columns = ["Mirror State Transition Error Code", "Mirror State Transition Error Message"];
    let row = |e: &StateTransitionErrorRow<'_>| vec![e.error_code.to_owned(), e.error_message.to_owned()];
    listed("No state transition errors found.", &columns, errors.iter().map(row))
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

/// The summary of `verify`.
pub(crate) fn verification(view: &VerifyView) -> String {
    let mut lines = vec![format!(
        "Compared {} batches, {} bytes, {} offsets in {} of {} partitions: {}.",
        view.batches,
        view.bytes,
        view.offsets_compared,
        view.partitions_done,
        view.partitions,
        match (view.differences, view.partitions_behind) {
            (0, _) if !view.errors.is_empty() || !view.finished => {
                "no difference so far, but not everything was compared to the end".to_owned()
            }
            (0, 0) => "in sync, every byte is equal".to_owned(),
            (0, n) =>
                format!("{} missing at the end of {}", count(view.records_behind, "record"), count(n, "partition")),
            (n, _) => count(n, "difference"),
        }
    )];
    lines.extend(view.first_difference.iter().map(|d| format!("First difference: {d}")));
    lines.extend(view.not_comparable.iter().map(|note| format!("Not compared: {note}")));
    lines.extend(view.behind.iter().map(behind));
    lines.extend(view.errors.iter().map(|error| format!("Failed: {error}")));
    lines.join("\n")
}

fn behind(at: &BehindView) -> String {
    let BehindView { mirror_topic_name, partition, log_end_offset, source_end_offset, records_behind, reason } = at;
    let records = count(*records_behind, "record");
    format!(
        "Behind: {mirror_topic_name}-{partition} ends at offset {log_end_offset}, its source at {source_end_offset}: \
         {records} missing, {reason}"
    )
}

/// `1 record`, `2 records`.
fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// One line of progress of `verify`.
pub(crate) fn verification_progress(view: &VerifyView) -> String {
    format!(
        "{}/{} partitions, {} batches, {}, {} offsets left, {} differences",
        view.partitions_done,
        view.partitions,
        view.batches,
        bytes(view.bytes),
        view.offsets_left,
        view.differences
    )
}

/// `1.23 MB` (powers of ten, as disks and networks are sold).
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match UNITS.iter().find(|(_, unit)| n >= *unit) {
        Some((name, unit)) => {
            let hundredths = u128::from(n) * 100 / u128::from(*unit);
            format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
        }
        None => format!("{n} B"),
    }
}

/// The table of `rows`, or `none` where there are none.
fn listed(none: &str, header: &[&str], rows: impl ExactSizeIterator<Item = Vec<String>>) -> String {
    if rows.len() == 0 {
        return none.to_owned();
    }
    let mut table = table(header);
    table.add_rows(rows);
    table.to_string()
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    table
}

fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

/// The stable name of a refusal, as machines get it.
fn refusal_name(code: RefusalCode) -> String {
    serde_json::to_value(code).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn shown_error(error: &str) -> String {
    if error == "NO_ERROR" { String::new() } else { error.to_owned() }
}

#[cfg(test)]
mod tests;
