//! Leader epochs that clients were told and that the log does not tell by itself: after a truncation a partition is led
//! under an epoch above every batch that is left.

use crate::disk::{EPOCHS, Failure};
use crate::{Error, State};
use redb::{ReadableTable, WriteTransaction};
use uuid::Uuid;

impl State {
    /// The largest leader epoch that was kept for a partition of the topic with this id.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn leader_epoch(&self, topic_id: Uuid, partition: i32) -> Result<Option<i32>, Error> {
        let key = (topic_id.as_u128(), partition);
        self.inner.disk.read(|t| Ok(t.open_table(EPOCHS)?.get(key)?.map(|epoch| epoch.value())))
    }

    /// Keeps leader epochs, as topic id, partition and epoch; one below what is kept changes nothing. Blocks on fsync, once.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn raise_leader_epochs(&self, epochs: &[(Uuid, i32, i32)]) -> Result<(), Error> {
        self.inner.disk.write(|t| {
            let mut table = t.open_table(EPOCHS)?;
            for (topic_id, partition, epoch) in epochs {
                let key = (topic_id.as_u128(), *partition);
                let kept = table.get(key)?.map(|kept| kept.value());
                if kept.is_none_or(|kept| kept < *epoch) {
                    table.insert(key, *epoch)?;
                }
            }
            Ok(())
        })
    }
}

/// Forgets the epochs of a topic that is deleted.
pub(crate) fn forget_topic(t: &WriteTransaction, topic_id: Uuid) -> Result<(), Failure> {
    let id = topic_id.as_u128();
    t.open_table(EPOCHS)?.retain_in((id, i32::MIN)..=(id, i32::MAX), |_, _| false)?;
    Ok(())
}
