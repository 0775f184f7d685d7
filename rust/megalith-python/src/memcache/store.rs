//! A bounded store of values, the least recently used of which leave first. It knows nothing of Python.
//!
//! An entry has one key and some aliases: the ways of calling that were seen to mean it. Entries lie in slots; a doubly
//! linked list through the slots holds the order of use, so that every step here takes constant time.

use std::collections::HashMap;
use std::sync::Arc;

/// What an entry takes beside its value: key, aliases, links.
pub(crate) const ENTRY_BYTES: u64 = 512;

/// Aliases of an entry; one more takes the place of the first.
const MOST_ALIASES: usize = 8;

/// The end of the list.
const NONE: usize = usize::MAX;

struct Entry<V> {
    key: u128,
    value: V,
    bytes: u64,
    aliases: Vec<Arc<[u8]>>,
    newer: usize,
    older: usize,
}

pub(crate) struct Store<V> {
    slots: Vec<Option<Entry<V>>>,
    free: Vec<usize>,
    keys: HashMap<u128, usize>,
    aliases: HashMap<Arc<[u8]>, usize>,
    newest: usize,
    oldest: usize,
    bytes: u64,
    max_bytes: u64,
}

impl<V> Store<V> {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            keys: HashMap::new(),
            aliases: HashMap::new(),
            newest: NONE,
            oldest: NONE,
            bytes: 0,
            max_bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// The value of an alias, used now.
    pub(crate) fn find(&mut self, alias: &[u8]) -> Option<&V> {
        let slot = *self.aliases.get(alias)?;
        Some(self.touch(slot))
    }

    /// The value of a key, used now.
    pub(crate) fn get(&mut self, key: u128) -> Option<&V> {
        let slot = *self.keys.get(&key)?;
        Some(self.touch(slot))
    }

    /// Whether a key is there; this is no use of it.
    pub(crate) fn holds(&self, key: u128) -> bool {
        self.keys.contains_key(&key)
    }

    /// Take the value of a key out.
    pub(crate) fn take(&mut self, key: u128) -> Option<V> {
        let slot = *self.keys.get(&key)?;
        Some(self.remove(slot))
    }

    /// Let an alias lead to a key, if that is there.
    pub(crate) fn alias(&mut self, key: u128, alias: &[u8]) {
        let Some(&slot) = self.keys.get(&key) else { return };
        let alias: Arc<[u8]> = alias.into();
        match self.aliases.insert(Arc::clone(&alias), slot) {
            Some(known) if known == slot => return,
            Some(known) => self.entry(known).aliases.retain(|a| *a != alias),
            None => {}
        }
        let aliases = &mut self.entry(slot).aliases;
        aliases.push(alias);
        if aliases.len() > MOST_ALIASES {
            let first = aliases.remove(0);
            self.aliases.remove(&first);
        }
    }

    /// Let no alias lead anywhere.
    pub(crate) fn forget_aliases(&mut self) {
        self.aliases.clear();
        for entry in self.slots.iter_mut().flatten() {
            entry.aliases.clear();
        }
    }

    /// Put a value in, as the newest. What has to leave is moved into `gone`: it may run code of its own when dropped,
    /// which must not happen in here. One that is too large for the store goes there itself. The key is not there.
    pub(crate) fn insert(&mut self, key: u128, value: V, bytes: u64, gone: &mut Vec<V>) {
        let bytes = bytes.saturating_add(ENTRY_BYTES);
        debug_assert!(!self.keys.contains_key(&key));
        if bytes > self.max_bytes {
            gone.push(value);
            return;
        }
        while self.bytes > self.max_bytes - bytes {
            gone.push(self.remove(self.oldest));
        }
        let entry = Entry { key, value, bytes, aliases: Vec::new(), newer: NONE, older: NONE };
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(Some(entry));
        } else {
            self.slots[slot] = Some(entry);
        }
        self.keys.insert(key, slot);
        self.bytes += bytes;
        self.link(slot);
    }

    /// The entries, the least recently used first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u128, &V)> {
        let mut slot = self.oldest;
        std::iter::from_fn(move || {
            let entry = self.slots.get(slot)?.as_ref()?;
            slot = entry.newer;
            Some((entry.key, &entry.value))
        })
    }

    fn entry(&mut self, slot: usize) -> &mut Entry<V> {
        self.slots[slot].as_mut().expect("linked slots are full")
    }

    fn touch(&mut self, slot: usize) -> &V {
        if self.newest != slot {
            self.unlink(slot);
            self.link(slot);
        }
        &self.entry(slot).value
    }

    fn link(&mut self, slot: usize) {
        let newest = self.newest;
        let entry = self.entry(slot);
        (entry.older, entry.newer) = (newest, NONE);
        if newest == NONE {
            self.oldest = slot;
        } else {
            self.entry(newest).newer = slot;
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: usize) {
        let entry = self.entry(slot);
        let (older, newer) = (entry.older, entry.newer);
        if older == NONE {
            self.oldest = newer;
        } else {
            self.entry(older).newer = newer;
        }
        if newer == NONE {
            self.newest = older;
        } else {
            self.entry(newer).older = older;
        }
    }

    fn remove(&mut self, slot: usize) -> V {
        self.unlink(slot);
        let entry = self.slots[slot].take().expect("linked slots are full");
        self.free.push(slot);
        self.keys.remove(&entry.key);
        for alias in &entry.aliases {
            self.aliases.remove(alias);
        }
        self.bytes -= entry.bytes;
        entry.value
    }
}
