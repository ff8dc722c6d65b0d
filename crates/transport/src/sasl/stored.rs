//! SCRAM users that come and go while listeners serve (`kafka-configs --entity-type users`); whoever keeps them on a disk
//! tells them here. Asked at every login, so that a change counts from the next one on.

use super::scram::{ScramCredential, ScramMechanism, Shape};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// SCRAM users beside those of the listeners' properties. Clones share them. No `Debug`.
#[derive(Clone)]
pub struct ScramUsers {
    shared: Arc<Shared>,
}

struct Shared {
    secret: [u8; 32],
    users: RwLock<Users>,
}

#[derive(Default)]
struct Users {
    credentials: HashMap<ScramMechanism, HashMap<String, ScramCredential>>,
    /// How many credentials have a shape.
    shapes: BTreeMap<(ScramMechanism, Shape), usize>,
}

impl ScramUsers {
    /// None yet. Salts of users that do not exist are made from `secret`: it should outlive restarts, as real salts do.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { shared: Arc::new(Shared { secret, users: RwLock::default() }) }
    }

    /// Adds a user, or gives it another password.
    pub fn put(&self, mechanism: ScramMechanism, user: &str, credential: ScramCredential) {
        let mut users = self.write();
        users.remove(mechanism, user);
        *users.shapes.entry((mechanism, credential.shape())).or_default() += 1;
        users.credentials.entry(mechanism).or_default().insert(user.to_owned(), credential);
    }

    /// Removes a user's credential; sessions end when they are to log in again.
    pub fn remove(&self, mechanism: ScramMechanism, user: &str) {
        self.write().remove(mechanism, user);
    }

    pub(super) fn credential(&self, mechanism: ScramMechanism, user: &str) -> Option<ScramCredential> {
        self.read().credentials.get(&mechanism)?.get(user).cloned()
    }

    pub(super) fn shapes(&self, mechanism: ScramMechanism) -> Vec<Shape> {
        let users = self.read();
        users.shapes.keys().filter(|(of, _)| *of == mechanism).map(|(_, shape)| *shape).collect()
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.shared.secret
    }

    fn read(&self) -> RwLockReadGuard<'_, Users> {
        self.shared.users.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Users> {
        self.shared.users.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    fn remove(&mut self, mechanism: ScramMechanism, user: &str) {
        let Some(old) = self.credentials.get_mut(&mechanism).and_then(|users| users.remove(user)) else { return };
        if let Some(count) = self.shapes.get_mut(&(mechanism, old.shape())) {
            *count -= 1;
            if *count == 0 {
                self.shapes.remove(&(mechanism, old.shape()));
            }
        }
    }
}
