//! Who the client of a connection is, and where the connection of a client is.

use crate::conn::Session;
use crate::error::CloseReason;
use crate::ring::token::ConnId;

use super::Core;
use super::mail::{Mail, Origin};

/// The close code of a connection whose client has connected anew.
const REPLACED: u16 = 4001;

impl Core {
    /// The name of the client of a `json` connection.
    pub(crate) fn client_of(&self, id: ConnId) -> Option<u64> {
        match &self.conns.get(id)?.session {
            Session::Json { more, .. } => Some(self.client_named(id, more.as_ref().and_then(|more| more.claimed))),
            _ => None,
        }
    }

    /// The same of a connection that has claimed a name, or not.
    pub(super) fn client_named(&self, id: ConnId, claimed: Option<u64>) -> u64 {
        claimed.unwrap_or_else(|| self.shared.identity().client(self.id, id))
    }

    /// Where the connection of a client is whose name leads here.
    pub(super) fn whereabouts(&self, client: u64) -> Option<Origin> {
        // A claim first: the connection that had the name may not have ended yet.
        self.claims.get(&client).copied().or_else(|| {
            let (shard, conn) = self.shared.identity().whereabouts(client);
            let original = shard == self.id && self.client_of(conn) == Some(client);
            original.then_some(Origin { shard, conn })
        })
    }

    /// Tells the shard that a client's name leads to where the client is now, or that this connection is gone.
    pub(super) fn post_claim(&mut self, client: u64, by: Origin, gone: bool) {
        let (shard, _) = self.shared.identity().whereabouts(client);
        if shard == self.id {
            self.claim(client, by, gone);
        } else if usize::from(shard) < self.postboxes.len() {
            self.post(shard, Mail::Claim { client, by, gone });
        }
    }

    /// A client whose name leads here has connected anew, or that connection has ended. The older one is closed.
    pub(super) fn claim(&mut self, client: u64, by: Origin, gone: bool) {
        if gone {
            if self.claims.get(&client) == Some(&by) {
                self.claims.remove(&client);
            }
            return;
        }
        match self.whereabouts(client) {
            Some(old) if old.shard == self.id => self.replaced(old.conn),
            Some(old) => self.post(old.shard, Mail::Replaced { conn: old.conn }),
            None => {}
        }
        self.claims.insert(client, by);
    }

    /// The client of a connection has connected anew.
    pub(super) fn replaced(&mut self, id: ConnId) {
        self.close(id, REPLACED, "replaced", CloseReason::Replaced);
    }
}
