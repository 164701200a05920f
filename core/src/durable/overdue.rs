//! Which records of a file have expired.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase as _};

use crate::durable::file_record::{EXPIRY, HEADS, Head, Id};

/// Follows the index of expiry times, so that each entry is read once, however long its record is
/// kept after its time because the store was closed.
#[derive(Debug)]
pub(crate) struct Overdue {
    /// No record expires before. Not by the wall clock, which may be set right only now.
    opened: Instant,
    least_keep: Duration,
    /// Entries before this time are in `waiting`, in ms since 1970.
    seen: u64,
    /// Entries whose time has come by the wall clock, by when they expire.
    waiting: BinaryHeap<Reverse<(Instant, u64, Id)>>,
}

/// What a look at the index has found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Sessions whose records have expired, with their revisions.
    pub(crate) expired: Vec<(Id, u64)>,
    /// Entries of the index whose records cannot be read or are gone.
    pub(crate) stray: Vec<(u64, Id)>,
}

impl Overdue {
    pub(crate) fn new(opened: Instant, least_keep: Duration) -> Self {
        Self {
            opened,
            least_keep,
            seen: 0,
            waiting: BinaryHeap::new(),
        }
    }

    /// Returns up to `most` expired records. One that is not removed is returned again after a
    /// while. `wall` is the wall clock, in ms since 1970.
    pub(crate) fn look(
        &mut self,
        database: &Database,
        most: usize,
        (now, wall): (Instant, u64),
    ) -> Result<Found, redb::Error> {
        if wall < self.seen {
            // The clock was set back, so there may be entries that were not seen.
            *self = Self::new(self.opened, self.least_keep);
        }
        let mut found = Found::default();
        let read = database.begin_read()?;
        let (heads, expiry) = (read.open_table(HEADS)?, read.open_table(EXPIRY)?);
        let head_of = |id: Id, expires: u64| -> Result<Option<Head>, redb::Error> {
            let head = heads.get(id)?.and_then(|head| Head::decode(id, head.value()));
            Ok(head.filter(|head| head.expires == expires))
        };
        let mut waiting = Vec::new();
        for entry in expiry.range((self.seen, [0; 16])..(wall, [0; 16]))? {
            let (expires, id) = entry?.0.value();
            match head_of(id, expires)? {
                Some(head) => waiting.push(Reverse((self.opened + head.keep.max(self.least_keep), expires, id))),
                None => found.stray.push((expires, id)),
            }
        }
        self.waiting.extend(waiting);
        self.seen = wall;
        while found.expired.len() < most
            && let Some(Reverse((due, expires, id))) = self.waiting.pop()
        {
            if due > now {
                self.waiting.push(Reverse((due, expires, id)));
                break;
            }
            // It may have been replaced meanwhile.
            if let Some(head) = head_of(id, expires)? {
                found.expired.push((id, head.revision));
                self.waiting.push(Reverse((now + AGAIN, expires, id)));
            }
        }
        Ok(found)
    }
}

/// After which time an expired record is returned again that was not removed.
const AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use redb::backends::InMemoryBackend;

    use super::*;

    const DAY: u64 = 24 * 3600 * 1000;

    const NONE: [u8; 0] = [];

    struct File {
        database: Database,
        overdue: Overdue,
        opened: Instant,
    }

    impl File {
        /// Creates a file that is opened at the wall time `DAY`.
        fn new() -> Self {
            let database = Database::builder()
                .create_with_backend(InMemoryBackend::new())
                .expect("it is created");
            let opened = Instant::now();
            let file = Self {
                database,
                overdue: Overdue::new(opened, Duration::from_secs(30)),
                opened,
            };
            let write = file.database.begin_write().expect("it writes");
            write.open_table(HEADS).expect("there is a table");
            write.open_table(EXPIRY).expect("there is a table");
            write.commit().expect("it writes");
            file
        }

        /// Writes a record that is kept for `keep` seconds and expires at this wall time.
        fn write(&self, number: u8, expires: u64, keep: u64) {
            let id = [number; 16];
            let head = Head {
                revision: number.into(),
                rows: 0,
                expires,
                keep: Duration::from_secs(keep),
                bytes: Bytes::new(),
            };
            let write = self.database.begin_write().expect("it writes");
            let mut heads = write.open_table(HEADS).expect("there is a table");
            heads.insert(id, &head.encode(id)[..]).expect("it writes");
            drop(heads);
            let mut expiry = write.open_table(EXPIRY).expect("there is a table");
            expiry.insert((expires, id), ()).expect("it writes");
            drop(expiry);
            write.commit().expect("it writes");
        }

        /// Looks this many seconds after the opening. Returns the first bytes of the ids.
        fn look(&mut self, seconds: u64, most: usize) -> Vec<u8> {
            self.look_at(seconds, DAY + 1000 * seconds, most)
        }

        fn look_at(&mut self, seconds: u64, wall: u64, most: usize) -> Vec<u8> {
            let now = (self.opened + Duration::from_secs(seconds), wall);
            let found = self.overdue.look(&self.database, most, now).expect("it reads");
            found.expired.iter().map(|(id, _)| id[0]).collect()
        }
    }

    #[test]
    fn a_record_is_kept_for_its_time_after_the_file_was_opened() {
        let mut file = File::new();
        file.write(1, 5, 100);
        file.write(2, 6, 10);
        file.write(3, DAY + 60_000, 60);
        assert_eq!(file.look(29, 10), NONE);
        assert_eq!(file.look(30, 10), [2]);
        assert_eq!(file.look(34, 10), NONE, "not before a while");
        assert_eq!(file.look(61, 10), [2, 3]);
        assert_eq!(file.look(100, 1).len(), 1);
        assert_eq!(file.look(100, 10).len(), 2);
    }

    #[test]
    fn a_record_that_was_replaced_has_not_expired() {
        let mut file = File::new();
        file.write(1, 5, 10);
        assert_eq!(file.look(10, 10), NONE);
        file.write(1, DAY + 200_000, 200);
        assert_eq!(file.look(199, 10), NONE);
        assert_eq!(file.look(201, 10), [1]);
    }

    #[test]
    fn a_clock_that_is_set_back_hides_no_record() {
        let mut file = File::new();
        assert_eq!(file.look(60, 10), NONE);
        file.write(1, 7, 10);
        assert_eq!(file.look(61, 10), NONE, "it was written below what has been seen");
        assert_eq!(file.look_at(62, 100, 10), [1]);
    }
}
