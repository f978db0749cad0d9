//! How busy connections are: the messages of each since it was last looked at. They are counted while somebody looks, and
//! take no memory otherwise.

/// Messages of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Count {
    /// That it has sent.
    pub received: u32,
    /// That were put into its outbox for its subscriptions.
    pub delivered: u32,
}

/// The counts of a shard's connections, by slot.
#[derive(Default)]
pub struct Traffic(Vec<[u32; 2]>);

impl Traffic {
    /// Counts from now on, for connections in the slots below `slots`: 8 bytes each, of which those of slots in use become
    /// resident.
    pub fn begin(&mut self, slots: u32) {
        self.0 = vec![[0; 2]; slots as usize];
    }

    /// Counts no more, and forgets.
    pub fn end(&mut self) {
        self.0 = Vec::new();
    }

    /// Bytes that it takes, at most.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Whether it counts.
    pub fn is_counting(&self) -> bool {
        !self.0.is_empty()
    }

    /// A connection has sent a message.
    #[inline]
    pub fn receive(&mut self, index: u32) {
        if let Some([received, _]) = self.0.get_mut(index as usize) {
            *received = received.saturating_add(1);
        }
    }

    /// Messages were put into the outbox of a connection.
    #[inline]
    pub fn deliver(&mut self, index: u32, messages: u32) {
        if let Some([_, delivered]) = self.0.get_mut(index as usize) {
            *delivered = delivered.saturating_add(messages);
        }
    }

    /// What was counted of the tenant of a slot, from zero again.
    pub fn take(&mut self, index: u32) -> Count {
        let [received, delivered] = self.0.get_mut(index as usize).map(std::mem::take).unwrap_or_default();
        Count { received, delivered }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_while_somebody_looks_and_from_zero_after_each_look() {
        let mut traffic = Traffic::default();
        traffic.receive(1);
        assert_eq!((traffic.take(1), traffic.is_counting()), (Count::default(), false));
        traffic.begin(2);
        traffic.receive(1);
        traffic.deliver(1, 3);
        traffic.deliver(1, u32::MAX);
        traffic.deliver(2, 1);
        assert_eq!(traffic.take(1), Count { received: 1, delivered: u32::MAX });
        assert_eq!((traffic.take(1), traffic.take(2)), (Count::default(), Count::default()));
        traffic.receive(0);
        traffic.end();
        assert_eq!(traffic.take(0), Count::default());
    }
}
