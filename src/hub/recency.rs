//! Topics in the order in which something happened to them last.

/// A circular doubly linked list through a table: topic `i` is node `i + 1`, node 0 is the head. 8 bytes an index.
#[derive(Debug)]
pub(super) struct Recency {
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Node {
    prev: u32,
    next: u32,
}

impl Node {
    const UNLINKED: Node = Node { prev: u32::MAX, next: u32::MAX };
}

impl Recency {
    pub fn new() -> Recency {
        Recency { nodes: vec![Node { prev: 0, next: 0 }] }
    }

    /// Makes a topic the most recent.
    pub fn touch(&mut self, topic: u32) {
        self.remove(topic);
        let node = topic as usize + 1;
        if node >= self.nodes.len() {
            self.nodes.resize(node + 1, Node::UNLINKED);
        }
        let last = self.nodes[0].prev;
        self.nodes[node] = Node { prev: last, next: 0 };
        self.nodes[last as usize].next = topic + 1;
        self.nodes[0].prev = topic + 1;
    }

    /// Takes a topic out, if it is in.
    pub fn remove(&mut self, topic: u32) {
        let Some(node) = self.nodes.get_mut(topic as usize + 1).filter(|node| **node != Node::UNLINKED) else { return };
        let Node { prev, next } = std::mem::replace(node, Node::UNLINKED);
        self.nodes[prev as usize].next = next;
        self.nodes[next as usize].prev = prev;
    }

    /// The least recent.
    pub fn first(&self) -> Option<u32> {
        self.iter().next()
    }

    /// All, the least recent first.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let after = |node: u32| Some(self.nodes[node as usize].next).filter(|&next| next != 0);
        std::iter::successors(after(0), move |&node| after(node)).map(|node| node - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_list_that_one_moves_to_the_end_of(steps in prop::collection::vec((0u32..8, any::<bool>()), 0..60)) {
            let (mut recency, mut list) = (Recency::new(), Vec::new());
            for (topic, touched) in steps {
                list.retain(|&other| other != topic);
                match touched {
                    true => {
                        list.push(topic);
                        recency.touch(topic);
                    }
                    false => recency.remove(topic),
                }
                prop_assert_eq!(recency.iter().collect::<Vec<_>>(), list.clone());
                prop_assert_eq!(recency.first(), list.first().copied());
            }
        }
    }
}
