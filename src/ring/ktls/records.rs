//! The memory of records that are no data: message headers, and the control messages with the records' types.

use std::cell::UnsafeCell;
use std::ptr;

use super::Record;
use crate::limits::READ_BUFFERS;

/// Bytes of a control message with a record's type: header, type, padding.
const CONTROL: usize = 24;
/// Its own length: header and type.
const CONTROL_LEN: usize = 17;

const _: () = {
    // SAFETY: the two compute sizes from integers.
    assert!(unsafe { libc::CMSG_SPACE(1) } as usize == CONTROL);
    // SAFETY: as above.
    assert!(unsafe { libc::CMSG_LEN(1) } as usize == CONTROL_LEN);
};

/// A control message with one byte.
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    header: libc::cmsghdr,
    kind: u8,
    padding: [u8; 7],
}

const _: () = assert!(size_of::<Control>() == CONTROL && align_of::<Control>() == align_of::<libc::cmsghdr>());

impl Control {
    fn new(cmsg_type: i32, kind: u8) -> Control {
        let header = libc::cmsghdr { cmsg_len: CONTROL_LEN, cmsg_level: libc::SOL_TLS, cmsg_type };
        Control { header, kind, padding: [0; 7] }
    }
}

/// One message, with what its header points to.
struct Message {
    header: libc::msghdr,
    content: libc::iovec,
    control: Control,
}

impl Message {
    fn new(cmsg_type: i32, kind: u8) -> UnsafeCell<Message> {
        // SAFETY: a msghdr is integers and pointers, for which zero is valid.
        let header = unsafe { std::mem::zeroed() };
        let content = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        UnsafeCell::new(Message { header, content, control: Control::new(cmsg_type, kind) })
    }
}

/// The messages of a ring: one for each [`Record`] that is sent, and one for each read buffer. They stay where they are as long as
/// the ring lives. The kernel reads and writes them within the enter that submits the operation only (`MSG_DONTWAIT`).
pub(in crate::ring) struct Records {
    sent: Box<[UnsafeCell<Message>]>,
    received: Box<[UnsafeCell<Message>]>,
}

impl Records {
    pub(in crate::ring) fn new() -> Records {
        let sent = Record::ALL.iter().map(|record| Message::new(libc::TLS_SET_RECORD_TYPE, record.content().0));
        let received = (0..READ_BUFFERS).map(|_| Message::new(0, 0));
        Records { sent: sent.collect(), received: received.collect() }
    }

    /// What sends a record.
    pub(in crate::ring) fn outgoing(&mut self, record: Record) -> *const libc::msghdr {
        let bytes = record.content().1;
        // The kernel only reads from there.
        prepare(&self.sent[record as usize], bytes.as_ptr().cast_mut(), bytes.len())
    }

    /// What receives into a read buffer, and notes the record's type. Panics if there is no such buffer.
    pub(in crate::ring) fn incoming(&mut self, buffer: u16, memory: &mut [u8]) -> *mut libc::msghdr {
        let message = &self.received[usize::from(buffer)];
        // SAFETY: nobody else refers to the message: no receive into this buffer is under way.
        unsafe { (*message.get()).control = Control::new(0, 0) };
        prepare(message, memory.as_mut_ptr(), memory.len())
    }

    /// The type of the record that was received into a buffer; `None` if the kernel has not said.
    pub(in crate::ring) fn kind(&self, buffer: u16) -> Option<u8> {
        let message = self.received.get(usize::from(buffer))?.get();
        // SAFETY: the receive is over: the kernel has written the control message, or left it as it was; it is plain bytes.
        let Control { header, kind, .. } = unsafe { ptr::read(ptr::addr_of!((*message).control)) };
        let told = header.cmsg_level == libc::SOL_TLS && header.cmsg_type == libc::TLS_GET_RECORD_TYPE;
        told.then_some(kind)
    }
}

/// Points a message's header to its parts.
fn prepare(message: &UnsafeCell<Message>, bytes: *mut u8, len: usize) -> *mut libc::msghdr {
    let message = message.get();
    // SAFETY: the message is the ring's own, and no operation with it is under way, or one that only reads the same values.
    unsafe {
        (*message).content = libc::iovec { iov_base: bytes.cast(), iov_len: len };
        (*message).header.msg_iov = ptr::addr_of_mut!((*message).content);
        (*message).header.msg_iovlen = 1;
        (*message).header.msg_control = ptr::addr_of_mut!((*message).control).cast();
        (*message).header.msg_controllen = CONTROL;
        ptr::addr_of_mut!((*message).header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice;

    #[test]
    fn a_record_is_sent_with_its_type() {
        let mut records = Records::new();
        for (record, kind, content) in [
            (Record::CloseNotify, 21, &[1, 0][..]),
            (Record::KeyUpdate, 22, &[24, 0, 0, 1, 0]),
            (Record::UnexpectedMessage, 21, &[2, 10]),
            (Record::InternalError, 21, &[2, 80]),
        ] {
            // SAFETY: the records are alive and nothing is under way.
            let header = unsafe { &*records.outgoing(record) };
            // SAFETY: as above; the header points to its parts.
            let (control, sent) = unsafe {
                let iovec = &*header.msg_iov;
                let sent = slice::from_raw_parts(iovec.iov_base.cast::<u8>(), iovec.iov_len);
                (&*header.msg_control.cast::<Control>(), sent)
            };
            assert_eq!((control.header.cmsg_level, control.header.cmsg_type, control.header.cmsg_len), (282, 1, 17));
            assert_eq!((control.kind, sent, header.msg_controllen), (kind, content, 24));
        }
    }

    #[test]
    fn the_type_is_what_the_kernel_wrote_for_this_receive() {
        let (mut records, mut memory) = (Records::new(), [0; 10]);
        let header = records.incoming(3, &mut memory);
        assert_eq!(records.kind(3), None);
        // SAFETY: this is what the kernel does.
        unsafe { *(*header).msg_control.cast() = Control::new(libc::TLS_GET_RECORD_TYPE, 21) };
        assert_eq!(records.kind(3), Some(21));
        records.incoming(3, &mut memory);
        assert_eq!((records.kind(3), records.kind(4), records.kind(u16::MAX)), (None, None, None));
    }
}
