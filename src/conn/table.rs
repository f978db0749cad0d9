//! The connections of a shard, by the registered-file slot that the kernel chose at accept.

use std::mem;

use crate::limits::MAX_CONNECTIONS_PER_SHARD;
use crate::ring::token::ConnId;

/// Set in a slot's tenancy word while it is occupied; the low 24 bits are the generation.
const OCCUPIED: u32 = 1 << 31;

const _: () = assert!(OCCUPIED & ConnId::GENERATION_MASK == 0);

/// Values by slot, each under the slot's generation, which changes with every tenant.
///
/// A slot costs `size_of::<Option<T>>() + 4` bytes: with a spare bit pattern in `T` a value of 64 bytes stays one cache
/// line, and the generations, which lie apart, are searched sixteen to the line. The capacity is reserved up front and
/// touched as slots come into use: nothing ever moves.
pub struct Table<T> {
    slots: Vec<Option<T>>,
    /// Generation and [`OCCUPIED`].
    tenancy: Vec<u32>,
    len: usize,
}

impl<T> Table<T> {
    /// An empty table for the indices below `capacity`, the size of the ring's registered-file table.
    pub fn with_capacity(capacity: u32) -> Table<T> {
        assert!(capacity <= MAX_CONNECTIONS_PER_SHARD);
        let capacity = capacity as usize;
        Table { slots: Vec::with_capacity(capacity), tenancy: Vec::with_capacity(capacity), len: 0 }
    }

    /// Occupied slots.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Slots that are, or have been, occupied.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Slots that there may be.
    pub fn capacity(&self) -> u32 {
        self.slots.capacity() as u32
    }

    /// Whether no slot is occupied.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of all slots that were ever occupied: the others are not resident.
    pub fn touched_bytes(&self) -> usize {
        self.slots.len() * (size_of::<Option<T>>() + size_of::<u32>())
    }

    /// Puts a value into a vacant slot.
    ///
    /// # Panics
    /// If the slot is occupied or beyond the capacity: the kernel gives out neither.
    pub fn insert(&mut self, index: u32, value: T) -> ConnId {
        let i = index as usize;
        assert!(i < self.tenancy.capacity(), "a slot beyond the table of registered files");
        if i >= self.slots.len() {
            self.slots.resize_with(i + 1, || None);
            self.tenancy.resize(i + 1, 0);
        }
        assert!(self.slots[i].is_none(), "the slot was accepted into before it was closed");
        self.slots[i] = Some(value);
        self.tenancy[i] |= OCCUPIED;
        self.len += 1;
        ConnId { index, generation: self.tenancy[i] & !OCCUPIED }
    }

    /// Whether `id` is the present tenant of its slot.
    #[inline]
    pub fn contains(&self, id: ConnId) -> bool {
        self.tenancy.get(id.index as usize) == Some(&(id.generation | OCCUPIED))
    }

    /// The value of the slot's present tenant, if that is `id`.
    #[inline]
    pub fn get(&self, id: ConnId) -> Option<&T> {
        if self.contains(id) { self.slots[id.index as usize].as_ref() } else { None }
    }

    /// See [`Table::get`].
    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        if self.contains(id) { self.slots[id.index as usize].as_mut() } else { None }
    }

    /// The present tenant of a slot.
    #[inline]
    pub fn id(&self, index: u32) -> Option<ConnId> {
        let tenancy = *self.tenancy.get(index as usize)?;
        (tenancy & OCCUPIED != 0).then_some(ConnId { index, generation: tenancy & !OCCUPIED })
    }

    /// The present tenant of a slot and its value.
    #[inline]
    pub fn by_index(&mut self, index: u32) -> Option<(ConnId, &mut T)> {
        let id = self.id(index)?;
        Some((id, self.slots[index as usize].as_mut()?))
    }

    /// Vacates the slot of `id`. The slot's next tenant has the next generation, modulo 2²⁴.
    pub fn remove(&mut self, id: ConnId) -> Option<T> {
        if !self.contains(id) {
            return None;
        }
        self.len -= 1;
        self.tenancy[id.index as usize] = (id.generation + 1) & ConnId::GENERATION_MASK;
        mem::take(&mut self.slots[id.index as usize])
    }

    /// The first occupied slot at or after `from`, so that a walk over all can be done a slice at a time.
    pub fn next_occupied(&self, from: u32) -> Option<u32> {
        let tail = self.tenancy.get(from as usize..)?;
        tail.iter().position(|tenancy| tenancy & OCCUPIED != 0).map(|offset| from + offset as u32)
    }

    /// Panics unless values, marks and the count agree and nothing was moved. For tests.
    pub fn invariants(&self) {
        assert_eq!(self.slots.len(), self.tenancy.len());
        assert_eq!(self.len, self.slots.iter().flatten().count());
        for (slot, tenancy) in self.slots.iter().zip(&self.tenancy) {
            assert_eq!(slot.is_some(), tenancy & OCCUPIED != 0);
            assert!(tenancy & !OCCUPIED <= ConnId::GENERATION_MASK);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::conn::outbox::Outbox;

    /// As large as a connection may be, with a `bool` whose spare patterns are the vacant slot's mark.
    struct Sample {
        _outbox: Outbox,
        _rest: [u32; 9],
        _flag: bool,
    }

    const _: () = assert!(size_of::<Sample>() == 64 && size_of::<Option<Sample>>() == 64);

    #[test]
    fn a_late_completion_does_not_find_the_next_tenant() {
        let mut table = Table::with_capacity(4);
        let first = table.insert(3, 'a');
        assert_eq!(table.remove(first), Some('a'));
        assert!(table.get(first).is_none() && table.remove(first).is_none() && table.id(3).is_none());
        let second = table.insert(3, 'b');
        assert_ne!(first, second);
        assert_eq!((table.get(first), table.get(second)), (None, Some(&'b')));
        assert_eq!((table.next_occupied(0), table.next_occupied(4)), (Some(3), None));
    }

    #[test]
    fn generations_wrap() {
        let mut table = Table::with_capacity(1);
        table.insert(0, ());
        table.tenancy[0] = ConnId::GENERATION_MASK | OCCUPIED;
        let last = table.id(0).unwrap();
        table.remove(last);
        assert_eq!(table.insert(0, ()).generation, 0);
        table.invariants();
    }

    #[test]
    #[should_panic(expected = "accepted into before it was closed")]
    fn an_occupied_slot_is_refused() {
        let mut table = Table::with_capacity(1);
        table.insert(0, ());
        table.insert(0, ());
    }

    #[test]
    #[should_panic(expected = "beyond the table")]
    fn an_index_beyond_the_capacity_is_refused() {
        Table::with_capacity(1).insert(1, ());
    }

    proptest! {
        #[test]
        fn a_table_is_a_map_from_present_tenants(steps in prop::collection::vec((0u32..16, any::<u16>()), 1..200)) {
            let mut table = Table::with_capacity(16);
            let capacity = table.slots.capacity();
            let mut model = HashMap::new();
            let mut former = Vec::new();
            for (index, value) in steps {
                match table.by_index(index) {
                    Some((id, old)) => {
                        prop_assert_eq!(model.remove(&id), Some(*old));
                        prop_assert!(table.remove(id).is_some());
                        former.push(id);
                    }
                    None => {
                        let id = table.insert(index, value);
                        *table.get_mut(id).unwrap() ^= 1;
                        prop_assert!(model.insert(id, value ^ 1).is_none() && !former.contains(&id));
                    }
                }
                table.invariants();
                prop_assert!(former.iter().all(|&id| table.get(id).is_none() && table.get_mut(id).is_none()));
                prop_assert!(model.iter().all(|(&id, value)| table.get(id) == Some(value)));
                prop_assert_eq!((table.len(), table.is_empty()), (model.len(), model.is_empty()));
                let mut walked = Vec::new();
                let mut from = 0;
                while let Some(index) = table.next_occupied(from) {
                    walked.push(index);
                    from = index + 1;
                }
                let mut indices: Vec<_> = model.keys().map(|id| id.index).collect();
                indices.sort_unstable();
                prop_assert_eq!(walked, indices);
            }
            prop_assert_eq!(table.slots.capacity(), capacity, "nothing moved");
        }
    }
}
