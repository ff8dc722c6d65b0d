//! SCRAM users, their passwords salted and hashed: what `kafka-configs --entity-type users` makes.

use crate::disk::{Failure, USERS};
use crate::{Error, State};
use redb::{ReadableTable, WriteTransaction};
use std::collections::BTreeMap;
use std::fmt;

/// A credential in Kafka's stored form (`ScramCredentialUtils`): salt, two keys, iterations; its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredCredential(pub String);

impl fmt::Debug for StoredCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredCredential")
    }
}

/// User and mechanism (`SCRAM-SHA-512`).
pub type ScramKey = (String, String);

pub(crate) type Users = BTreeMap<ScramKey, StoredCredential>;

impl State {
    /// All SCRAM credentials, by user and mechanism.
    pub fn scram_credentials(&self) -> BTreeMap<ScramKey, StoredCredential> {
        self.cache().users.clone()
    }

    /// How many there are.
    pub fn scram_credentials_len(&self) -> usize {
        self.cache().users.len()
    }

    /// One credential.
    pub fn scram_credential(&self, user: &str, mechanism: &str) -> Option<StoredCredential> {
        self.cache().users.get(&(user.to_owned(), mechanism.to_owned())).cloned()
    }

    /// Sets credentials, and removes those for which there is `None`; all or nothing. Blocks on fsync.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn change_scram_credentials(&self, changes: &[(ScramKey, Option<StoredCredential>)]) -> Result<(), Error> {
        let _changing = self.changing();
        self.inner
            .disk
            .write(|t| changes.iter().try_for_each(|(key, credential)| write(t, key, credential.as_ref())))?;
        let users = &mut self.cache_mut().users;
        for (key, credential) in changes {
            match credential {
                Some(credential) => drop(users.insert(key.clone(), credential.clone())),
                None => drop(users.remove(key)),
            }
        }
        Ok(())
    }
}

pub(crate) fn load(t: &WriteTransaction) -> Result<Users, Failure> {
    let mut users = Users::new();
    for row in t.open_table(USERS)?.iter()? {
        let (key, credential) = row?;
        let (user, mechanism) = key.value();
        users.insert((user.to_owned(), mechanism.to_owned()), StoredCredential(credential.value().to_owned()));
    }
    Ok(users)
}

fn write(t: &WriteTransaction, key: &ScramKey, credential: Option<&StoredCredential>) -> Result<(), Failure> {
    let mut table = t.open_table(USERS)?;
    let key = (key.0.as_str(), key.1.as_str());
    match credential {
        Some(credential) => drop(table.insert(key, credential.0.as_str())?),
        None => drop(table.remove(key)?),
    }
    Ok(())
}
