//! Results for people (tables, columns as in the reference's CLI) and for machines (JSON).

use crate::cli::Output;
use crate::operations::{LinkView, MirrorView, VerifyView};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Prints `value` as JSON, or what `human` makes of it.
pub(crate) fn show<T: Serialize>(output: Output, value: &T, human: impl FnOnce(&T) -> String) -> String {
    match output {
        Output::Human => human(value),
        // Our own types always encode: no maps with keys that are not text.
        Output::Json => serde_json::to_string_pretty(value).unwrap_or_default(),
    }
}

/// `link list`.
pub(crate) fn links(links: &[LinkView]) -> String {
    if links.is_empty() {
        return "No cluster links found.".to_owned();
    }
    let mut table = table(&[
        "Name",
        "ID",
        "Source Cluster",
        "Destination Cluster",
        "Remote Cluster",
        "State",
        "Error",
        "Error Message",
    ]);
    for link in links {
        table.add_row([
            link.link_name.clone(),
            text(link.link_id.as_ref()),
            text(link.source_cluster.as_ref()),
            text(link.destination_cluster.as_ref()),
            text(link.remote_cluster.as_ref()),
            link.state.to_string(),
            shown_error(&link.error),
            text(link.error_message.as_ref()),
        ]);
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
    for member in &link.members {
        let beat = member.last_beat_ms.map_or("never".to_owned(), |ms| format!("{ms} ms ago"));
        row("Member", format!("{} (last beat {beat}, {} channels)", member.member, member.channels));
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
    if mirrors.is_empty() {
        return "No mirror topics found.".to_owned();
    }
    let mut table = table(&[
        "Link Name",
        "Mirror Topic Name",
        "Num Partition",
        "Max Per Partition Mirror Lag",
        "Source Topic Name",
        "Mirror Status",
        "Status Time Ms",
    ]);
    for mirror in mirrors {
        table.add_row([
            mirror.link_name.clone(),
            mirror.mirror_topic_name.clone(),
            mirror.num_partition.to_string(),
            mirror.max_per_partition_mirror_lag.to_string(),
            mirror.source_topic_name.clone(),
            mirror.mirror_status.clone(),
            mirror.status_time_ms.to_string(),
        ]);
    }
    table.to_string()
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
            partition.last_source_fetch_offset.to_string(),
            partition.log_end_offset.to_string(),
            partition.last_source_high_watermark.to_string(),
            partition.time_since_last_fetch_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string()),
            partition.state.clone(),
            text(partition.reason.as_ref()),
        ]);
    }
    table.to_string()
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
        match (view.differences, view.errors.len()) {
            (0, 0) => "every byte is equal".to_owned(),
            (0, n) => format!("no difference so far, but {n} partitions were not compared to the end"),
            (1, _) => "1 difference".to_owned(),
            (n, _) => format!("{n} differences"),
        }
    )];
    lines.extend(view.first_difference.iter().map(|d| format!("First difference: {d}")));
    lines.extend(view.not_comparable.iter().map(|note| format!("Not compared: {note}")));
    lines.extend(view.errors.iter().map(|error| format!("Failed: {error}")));
    lines.join("\n")
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

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    table
}

fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

fn shown_error(error: &str) -> String {
    if error == "NO_ERROR" { String::new() } else { error.to_owned() }
}

#[cfg(test)]
mod tests;
