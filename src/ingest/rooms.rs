//! Bytes under way of each group, so that one group cannot take all that a node has for requests.
//!
//! A group that has nothing under way is not remembered, so the table is no longer than the requests that are.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Rooms {
    /// Bytes by group. Nothing waits while it is held.
    held: Arc<Mutex<HashMap<String, u64>>>,
}

/// Bytes of a group, given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    rooms: Rooms,
    group: String,
    bytes: u64,
}

impl Rooms {
    /// Bytes for a group that may have so many under way. One request is let in whatever its size: it could never be sent otherwise.
    pub fn claim(&self, group: &str, bytes: u64, limit: u64) -> Option<Room> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(group) {
            Some(present) if present.saturating_add(bytes) > limit => return None,
            Some(present) => *present += bytes,
            None => drop(held.insert(group.to_owned(), bytes)),
        }
        Some(Room { rooms: self.clone(), group: group.to_owned(), bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut held = self.rooms.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = held.get_mut(&self.group) {
            *present = present.saturating_sub(self.bytes);
            if *present == 0 {
                held.remove(&self.group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_full_is_refused_alone_and_is_forgotten_when_it_is_empty() {
        let rooms = Rooms::default();
        let first = rooms.claim("g", 900, 1000).unwrap();
        assert!(rooms.claim("g", 200, 1000).is_none());
        assert!(rooms.claim("other", 5000, 1000).is_some(), "one request is let in whatever its size");
        let second = rooms.claim("g", 100, 1000).unwrap();
        drop((first, second));
        assert!(rooms.held.lock().unwrap().is_empty());
    }
}
