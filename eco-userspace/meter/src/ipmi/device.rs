// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's IPMI device: linux/ipmi.h and linux/ipmi_msgdefs.h.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd,
    path::Path,
    time::Duration,
};

use super::Channel;

/// `IPMI_MAX_MSG_LENGTH`.
const MOST_BYTES: usize = 272;

/// `IPMI_SYSTEM_INTERFACE_ADDR_TYPE`: the controller that this kernel talks to.
const SYSTEM_INTERFACE: libc::c_int = 0x0c;

/// `IPMI_BMC_CHANNEL`.
const BMC_CHANNEL: libc::c_short = 0xf;

/// `IPMI_RESPONSE_RECV_TYPE`.
const RESPONSE: libc::c_int = 1;

/// The kernel itself gives up after 5 s and answers for the controller (0xc3).
const PATIENCE: Duration = Duration::from_secs(6);

/// `struct ipmi_system_interface_addr`.
#[repr(C)]
struct SystemInterface {
    kind: libc::c_int,
    channel: libc::c_short,
    lun: libc::c_uchar,
}

/// `struct ipmi_msg`.
#[repr(C)]
struct Message {
    netfn: libc::c_uchar,
    command: libc::c_uchar,
    length: libc::c_ushort,
    data: *mut libc::c_uchar,
}

/// `struct ipmi_req`.
#[repr(C)]
struct Request {
    address: *mut SystemInterface,
    address_length: libc::c_uint,
    id: libc::c_long,
    message: Message,
}

/// `struct ipmi_recv`.
#[repr(C)]
struct Received {
    kind: libc::c_int,
    address: *mut libc::c_uchar,
    address_length: libc::c_uint,
    id: libc::c_long,
    message: Message,
}

/// `_IOR('i', 13, struct ipmi_req)`.
const SEND_COMMAND: libc::Ioctl = libc::_IOR::<Request>(b'i' as u32, 13);

/// `_IOWR('i', 11, struct ipmi_recv)`.
const RECEIVE: libc::Ioctl = libc::_IOWR::<Received>(b'i' as u32, 11);

/// An open `/dev/ipmi0`.
pub(super) struct Device {
    file: File,
    id: libc::c_long,
}

impl Device {
    /// Opens it; needs read and write.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, id: 0 })
    }

    fn send(&self, netfn: u8, command: u8, data: &mut [u8]) -> io::Result<()> {
        let mut address = SystemInterface {
            kind: SYSTEM_INTERFACE,
            channel: BMC_CHANNEL,
            lun: 0,
        };
        let mut request = Request {
            address: &raw mut address,
            address_length: size_of::<SystemInterface>() as libc::c_uint,
            id: self.id,
            message: Message {
                netfn,
                command,
                length: data.len() as libc::c_ushort,
                data: data.as_mut_ptr(),
            },
        };
        // SAFETY: the request and what it points to (address, data with its length) outlive the
        // call, which copies them; the layout is the kernel's (checked by a test).
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), SEND_COMMAND, &raw mut request) };
        outcome(result)
    }

    fn wait(&self) -> io::Result<()> {
        let mut ready = libc::pollfd {
            fd: self.file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd, valid for the call.
        let count = unsafe { libc::poll(&raw mut ready, 1, PATIENCE.as_millis() as libc::c_int) };
        outcome(count)?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        Ok(())
    }

    /// The next message, with its kind, id and data.
    fn receive(&self) -> io::Result<(libc::c_int, libc::c_long, Vec<u8>)> {
        // `struct ipmi_addr`: the kernel writes at most 40 bytes, whatever kind it is.
        let mut address = [0u8; 64];
        let mut data = vec![0u8; MOST_BYTES];
        let mut received = Received {
            kind: 0,
            address: address.as_mut_ptr(),
            address_length: address.len() as libc::c_uint,
            id: 0,
            message: Message {
                netfn: 0,
                command: 0,
                length: MOST_BYTES as libc::c_ushort,
                data: data.as_mut_ptr(),
            },
        };
        // SAFETY: the structure and both buffers, with their true lengths, outlive the call.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), RECEIVE, &raw mut received) };
        outcome(result)?;
        data.truncate(usize::from(received.message.length));
        Ok((received.kind, received.id, data))
    }
}

impl Channel for Device {
    fn ask(&mut self, netfn: u8, command: u8, data: &[u8]) -> io::Result<Vec<u8>> {
        self.id = self.id.wrapping_add(1);
        self.send(netfn, command, &mut data.to_vec())?;
        // An answer to an earlier question that came too late is left aside; never many.
        for _ in 0..8 {
            self.wait()?;
            let (kind, id, data) = self.receive()?;
            if kind == RESPONSE && id == self.id {
                return Ok(data);
            }
        }
        Err(io::Error::other("it answers other questions than asked"))
    }
}

fn outcome(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_structures_are_the_kernels() {
        assert_eq!(size_of::<SystemInterface>(), 8);
        assert_eq!(size_of::<Message>(), 16);
        assert_eq!(size_of::<Request>(), 40);
        assert_eq!(size_of::<Received>(), 48);
        // By hand from asm-generic/ioctl.h: direction, size, letter, number.
        assert_eq!(SEND_COMMAND, 0x8028_690d);
        assert_eq!(RECEIVE, 0xc030_690b);
    }

    #[test]
    fn what_is_no_ipmi_device_is_an_error() {
        let mut device = Device::open(Path::new("/dev/null")).unwrap();
        assert!(device.ask(0x2c, 2, &[0xdc, 1, 0, 0]).is_err());
    }
}
