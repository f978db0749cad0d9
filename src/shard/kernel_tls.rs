//! TLS connections that are given to the kernel: it seals what is sent and opens what comes, and the connection is then as a
//! plain one, but for records that are no data.
//!
//! ```text
//! session ─▶ attaching ─▶ attached ─▶ installing ─▶ the kernel's
//!    ▲            │
//!    └─ refused ──┘
//! ```
//!
//! It happens at the end of a turn, when no send or receive is under way. A socket may be attached at any such time. The keys are
//! the kernel's when the session has had the last word, so that it owes the client nothing, and has no part of a record in it:
//! a client that never pauses stays with its session. Once the keys are out, there is no way back.

use crate::conn::Phase;
use crate::error::CloseReason;
use crate::hub::frame::LogId;
use crate::limits::READ_BUFFER_BYTES;
use crate::ring::ktls::{CryptoInfo, DATA, Record};
use crate::ring::op::{Completion, Op};
use crate::ring::token::ConnId;
use crate::tls::kernel::{Meaning, meaning};
use crate::tls::session::MAX_PLAIN;
use crate::tls::{Broken, NextKeys};

use super::flush::Sent;
use super::{Core, Shard};

/// Records that are kept for what is still to be sent when keys are nearly used up and none follow: more than a backlog has.
const LAST_RECORDS: u64 = 4096;

const _: () = assert!(READ_BUFFER_BYTES >= MAX_PLAIN, "a record that is no data comes in one piece");

/// How far a connection has come on its way to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Takeover {
    /// It stays with its session.
    #[default]
    Never,
    /// Its socket is to be attached.
    Wanted,
    /// That is under way.
    Attaching,
    /// The kernel waits for the keys; until then nothing has changed.
    Attached,
}

/// What of a connection's TLS is left to the shard.
pub(super) struct KernelSide {
    /// Keys that are on their way to the kernel. Meanwhile nothing is sent.
    installing: u8,
    /// It has had keys before.
    is_established: bool,
    /// What is being sent.
    sending: Sending,
    /// What is to be sent before anything else.
    record: Option<Record>,
    /// What comes next is no data.
    reads_record: bool,
    /// The client is told that nothing more comes.
    ended: bool,
    /// Records that may yet be sent with these keys.
    records: u64,
    /// Where the next keys come from.
    next: Option<Box<NextKeys>>,
}

/// A send that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sending {
    Nothing,
    /// So many bytes of the outbox.
    Data(u32),
    Record(Record),
}

impl KernelSide {
    /// Bytes of the outbox are being sent.
    pub(super) fn sends(&mut self, bytes: u32) {
        self.sending = Sending::Data(bytes);
        self.records = self.records.saturating_sub(u64::from(bytes).div_ceil(MAX_PLAIN as u64));
    }
}

impl super::secure::SecureTable {
    /// Whether the next read of a connection is of a record that is no data.
    pub(super) fn reads_record(&self, index: u32) -> bool {
        self.by_kernel.get(&index).is_some_and(|side| side.reads_record)
    }
}

impl Shard {
    /// A record that is no data has come, maybe.
    pub(super) fn record_arrived(&mut self, id: ConnId, kind: Option<u8>, content: &mut [u8]) {
        match kind {
            Some(DATA) => self.arrived(id, content),
            Some(kind) => self.core.record(id, meaning(kind, content)),
            None => self.core.give_up_kernel(id, Record::InternalError),
        }
    }
}

impl Core {
    /// Whether a new session may be given to the kernel. Counts it, if the kernel has not its cipher.
    pub(super) fn takeover_of(&self, session: Option<&crate::tls::Session>) -> Takeover {
        let Some(kernel) = self.aides.kernel_tls else { return Takeover::Never };
        match session.and_then(crate::tls::Session::suite) {
            Some((version, cipher)) if kernel.has(version, cipher) => Takeover::Wanted,
            _ => {
                self.counters.tls_kernel_cipher.add(1);
                Takeover::Never
            }
        }
    }

    /// Gives the kernel the connections that it may be time for.
    pub(super) fn give_all_to_kernel(&mut self) {
        for id in std::mem::take(&mut self.secure.candidates) {
            self.give_to_kernel(id);
        }
    }

    fn give_to_kernel(&mut self, id: ConnId) {
        let is_idle = |conn: &&mut crate::conn::Conn| conn.is_open() && !conn.flags.sending() && !conn.flags.blocked();
        let Some(conn) = self.conns.get_mut(id).filter(is_idle) else { return };
        let Some(secure) = self.secure.by_slot.get_mut(&id.index).filter(|secure| secure.wire.is_empty()) else {
            return;
        };
        let owes_nothing = secure.session.as_ref().is_some_and(|session| session.owes_nothing());
        match secure.takeover {
            Takeover::Never | Takeover::Attaching => {}
            Takeover::Wanted => {
                secure.takeover = Takeover::Attaching;
                self.ops.push(Op::AttachTls(id));
            }
            Takeover::Attached if !owes_nothing => {}
            Takeover::Attached => {
                let Some(session) = secure.session.take() else { return };
                let keeps_next = self.aides.kernel_tls.is_some_and(|kernel| kernel.rekeys);
                let Ok(keys) = session.into_keys(keeps_next) else { return self.terminate(id, CloseReason::Lost) };
                conn.flags.set_kernel_tls(true);
                self.counters.tls_kernel_connections.add(1);
                self.secure.by_slot.remove(&id.index);
                let side = KernelSide {
                    installing: 0,
                    is_established: false,
                    sending: Sending::Nothing,
                    record: None,
                    reads_record: false,
                    ended: false,
                    records: keys.records,
                    next: keys.next.map(Box::new),
                };
                self.secure.by_kernel.insert(id.index, side);
                self.install(id, &keys.send, false);
                self.install(id, &keys.receive, true);
            }
        }
    }

    /// The kernel has attached a socket, or not.
    pub(super) fn tls_attached(&mut self, completion: Completion) {
        let id = completion.token.conn;
        if self.conns.get(id).is_none() {
            return;
        }
        let Some(secure) = self.secure.by_slot.get_mut(&id.index) else { return };
        if completion.result < 0 {
            secure.takeover = Takeover::Never;
            self.counters.tls_kernel_refused.add(1);
        } else {
            secure.takeover = Takeover::Attached;
            self.secure.candidates.push(id);
        }
    }

    /// Gives the kernel keys. Until it has them, nothing is read and nothing is sent.
    fn install(&mut self, id: ConnId, keys: &CryptoInfo, receive: bool) {
        let (Some(conn), Some(side)) = (self.conns.get_mut(id), self.secure.by_kernel.get_mut(&id.index)) else {
            return;
        };
        conn.flags.set_shaking(true);
        side.installing += 1;
        let chunk = self.frames.alloc(keys.as_bytes().len(), LogId::NONE);
        let keys = self.frames.append(chunk, &[keys.as_bytes()]);
        self.secure.keys.push(keys);
        self.ops.push(Op::InstallTls { conn: id, keys, receive });
    }

    /// The enter is over in which the kernel has read keys. To be called before others are installed.
    pub(super) fn forget_keys(&mut self) {
        for keys in self.secure.keys.drain(..) {
            self.frames.erase(keys);
            self.frames.release(keys.chunk, 1);
        }
    }

    /// The kernel has taken keys, or not.
    pub(super) fn tls_installed(&mut self, completion: Completion) {
        let id = completion.token.conn;
        let (Some(conn), Some(side)) = (self.conns.get_mut(id), self.secure.by_kernel.get_mut(&id.index)) else {
            return;
        };
        if completion.result < 0 {
            self.counters.tls_kernel_failed.add(1);
            return self.terminate(id, CloseReason::Lost);
        }
        side.installing = side.installing.saturating_sub(1);
        if side.installing > 0 {
            return;
        }
        let counter = if side.is_established { &self.counters.tls_key_updates } else { &self.counters.tls_kernel_ok };
        counter.add(1);
        side.is_established = true;
        conn.flags.set_shaking(false);
        self.mark_dirty(id.index);
        self.want_read(id);
    }

    /// Sends the record that goes before anything else; `true` if nothing more may be sent in this turn.
    pub(super) fn flush_record(&mut self, id: ConnId) -> bool {
        if self.secure.by_kernel.get(&id.index).is_some_and(|side| side.records < LAST_RECORDS) {
            self.renew_keys(id);
        }
        let (Some(conn), Some(side)) = (self.conns.get_mut(id), self.secure.by_kernel.get_mut(&id.index)) else {
            return true;
        };
        if side.installing > 0 {
            return true;
        }
        let Some(record) = side.record else { return false };
        side.sending = Sending::Record(record);
        conn.flags.set_sending(true);
        self.attention = true;
        self.ops.push(Op::SendRecord { conn: id, record });
        self.sent.push(Sent { conn: id, bytes: 0, staged: None });
        true
    }

    /// The keys of what is sent are nearly used up: next ones, or the end.
    fn renew_keys(&mut self, id: ConnId) {
        let Some(side) = self.secure.by_kernel.get_mut(&id.index) else { return };
        match (&side.next, side.records) {
            (Some(_), _) => side.record = side.record.or(Some(Record::KeyUpdate)),
            (None, 0) => self.terminate(id, CloseReason::Lifetime),
            (None, _) => self.close(id, 1012, "keys", CloseReason::Lifetime),
        }
    }

    /// A send of a connection whose kernel seals is over; whether the socket took all of it.
    pub(super) fn kernel_took(&mut self, id: ConnId, result: i32) -> bool {
        let Some(side) = self.secure.by_kernel.get_mut(&id.index) else { return false };
        match std::mem::replace(&mut side.sending, Sending::Nothing) {
            Sending::Data(bytes) => u32::try_from(result).is_ok_and(|taken| taken >= bytes),
            Sending::Record(record) if result >= 0 => {
                side.record = side.record.filter(|waiting| *waiting != record);
                if record == Record::KeyUpdate {
                    self.change_keys(id, false);
                }
                true
            }
            Sending::Record(_) | Sending::Nothing => false,
        }
    }

    /// The next keys of one direction.
    fn change_keys(&mut self, id: ConnId, receive: bool) {
        let Some(side) = self.secure.by_kernel.get_mut(&id.index) else { return };
        let Some(next) = &mut side.next else { return };
        let keys: Result<CryptoInfo, Broken> = if receive { next.receive() } else { next.send() };
        if !receive {
            side.records = next.records();
        }
        match keys {
            Ok(keys) => self.install(id, &keys, receive),
            Err(_) => self.terminate(id, CloseReason::Lost),
        }
    }

    /// What was read is no data: the next read says what it is.
    pub(super) fn no_data(&mut self, id: ConnId) {
        if let Some(side) = self.secure.by_kernel.get_mut(&id.index) {
            side.reads_record = true;
            self.want_read(id);
        }
    }

    /// The read of a record is over.
    pub(super) fn record_read(&mut self, id: ConnId) {
        if self.conns.get(id).is_some()
            && let Some(side) = self.secure.by_kernel.get_mut(&id.index)
        {
            side.reads_record = false;
        }
    }

    /// A record that is no data has come.
    fn record(&mut self, id: ConnId, meaning: Meaning) {
        let Some(phase) = self.conns.get(id).map(|conn| conn.phase) else { return };
        let is_over = matches!(phase, Phase::Flushing | Phase::Lingering);
        match meaning {
            Meaning::End => self.end_of_stream(id),
            Meaning::Failure => self.terminate(id, CloseReason::Lost),
            _ if is_over => {}
            Meaning::Nothing => {}
            Meaning::KeyUpdate { answer } => self.key_update(id, answer),
            Meaning::Unexpected => self.give_up_kernel(id, Record::UnexpectedMessage),
        }
    }

    fn key_update(&mut self, id: ConnId, answer: bool) {
        let Some(side) = self.secure.by_kernel.get_mut(&id.index) else { return };
        if side.next.is_none() {
            self.counters.tls_key_updates_refused.add(1);
            return self.give_up_kernel(id, Record::InternalError);
        }
        if answer {
            side.record = side.record.or(Some(Record::KeyUpdate));
        }
        self.change_keys(id, true);
        self.mark_dirty(id.index);
    }

    /// Nothing more can come of a connection: an alert says so, and it is closed.
    fn give_up_kernel(&mut self, id: ConnId, alert: Record) {
        let (Some(conn), Some(side)) = (self.conns.get_mut(id), self.secure.by_kernel.get_mut(&id.index)) else {
            return;
        };
        conn.outbox.clear(&mut self.frames);
        (side.record, side.ended) = (Some(alert), true);
        self.backend_closes(id);
        self.flush_and_close(id, CloseReason::Protocol);
        self.mark_dirty(id.index);
    }

    /// Whether the client is yet to be told that nothing more comes; then that is sent next.
    pub(super) fn end_kernel(&mut self, id: ConnId) -> bool {
        let Some(side) = self.secure.by_kernel.get_mut(&id.index) else { return false };
        if std::mem::replace(&mut side.ended, true) {
            return side.record.is_some();
        }
        side.record = Some(Record::CloseNotify);
        self.mark_dirty(id.index);
        true
    }
}
