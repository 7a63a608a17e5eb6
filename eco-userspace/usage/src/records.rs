// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From the bytes of a task iterator to records.

use std::io::Read;

use eco_common::{CgroupBirth, TaskRecord};

use crate::source::{Scan, SourceError};

/// Reads an iterator to its end, and gives out each record. The kernel may cut its output
/// anywhere; `buffer` must hold one record at least.
///
/// # Errors
/// When the kernel refuses, or ends within a record: then some tasks were not shown.
pub(crate) fn read(
    iterator: &mut impl Read,
    buffer: &mut [u8],
    visit: &mut dyn FnMut(&TaskRecord),
) -> Result<Scan, SourceError> {
    let mut scan = Scan::default();
    let mut kept = 0;
    loop {
        let read = match iterator.read(&mut buffer[kept..]) {
            Ok(0) => break,
            Ok(read) => read,
            // The kernel yields after a million tasks, or when it is short of memory.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => continue,
            Err(e) => return Err(SourceError::Iterator(e.to_string())),
        };
        let filled = kept + read;
        let whole = filled - filled % TaskRecord::SIZE;
        for bytes in buffer[..whole].chunks_exact(TaskRecord::SIZE) {
            visit(&record(bytes));
            scan.records += 1;
        }
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
    if kept > 0 {
        return Err(SourceError::Torn {
            records: scan.records,
            torn: kept,
        });
    }
    Ok(scan)
}

/// The record in exactly [`TaskRecord::SIZE`] bytes.
pub(crate) fn record(bytes: &[u8]) -> TaskRecord {
    assert_eq!(bytes.len(), TaskRecord::SIZE);
    // SAFETY: there are exactly SIZE bytes; the struct is plain old data without padding and
    // any bit pattern is a value of it. Unaligned, as a byte buffer promises nothing.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<TaskRecord>()) }
}

/// The record in exactly [`CgroupBirth::SIZE`] bytes.
pub(crate) fn birth(bytes: &[u8]) -> CgroupBirth {
    assert_eq!(bytes.len(), CgroupBirth::SIZE);
    // SAFETY: as above.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<CgroupBirth>()) }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, io};

    use proptest::prelude::*;

    use super::*;

    /// What the kernel answers, read by read.
    struct Iterator(VecDeque<Result<Vec<u8>, i32>>);

    impl Read for Iterator {
        fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
            match self.0.pop_front() {
                None => Ok(0),
                Some(Err(code)) => Err(io::Error::from_raw_os_error(code)),
                Some(Ok(mut bytes)) => {
                    let rest = bytes.split_off(bytes.len().min(space.len()));
                    space[..bytes.len()].copy_from_slice(&bytes);
                    if !rest.is_empty() {
                        self.0.push_front(Ok(rest));
                    }
                    Ok(bytes.len())
                }
            }
        }
    }

    /// Bytes of so many tasks, of which each has its number everywhere.
    fn output(tasks: u8) -> Vec<u8> {
        (0..tasks)
            .flat_map(|task| [task; TaskRecord::SIZE])
            .collect()
    }

    fn pids(
        answers: impl IntoIterator<Item = Result<Vec<u8>, i32>>,
    ) -> (Vec<u8>, Result<Scan, SourceError>) {
        let mut seen = Vec::new();
        let mut iterator = Iterator(answers.into_iter().collect());
        let mut buffer = [0; 3 * TaskRecord::SIZE];
        let scan = read(&mut iterator, &mut buffer, &mut |record| {
            seen.push(record.pid.to_ne_bytes()[0]);
        });
        (seen, scan)
    }

    proptest! {
        #[test]
        fn wherever_the_kernel_cuts_each_task_is_given_out_once(
            tasks in 0u8..40,
            cuts in prop::collection::vec(1usize..300, 0..30),
            pauses in prop::collection::vec(prop::sample::select(vec![libc::EAGAIN, libc::EINTR]), 0..5),
        ) {
            let mut bytes = output(tasks);
            let mut answers = Vec::new();
            for cut in cuts {
                let rest = bytes.split_off(cut.min(bytes.len()));
                answers.extend((!bytes.is_empty()).then_some(Ok(bytes)));
                bytes = rest;
            }
            answers.extend((!bytes.is_empty()).then_some(Ok(bytes)));
            for (at, pause) in pauses.into_iter().enumerate() {
                answers.insert((at * 3).min(answers.len()), Err(pause));
            }
            let (seen, scan) = pids(answers);
            prop_assert_eq!(seen, (0..tasks).collect::<Vec<_>>());
            prop_assert_eq!(scan.unwrap().records, u64::from(tasks));
        }
    }

    #[test]
    fn an_end_within_a_record_is_told_and_nothing_made_of_the_piece() {
        let mut bytes = output(5);
        bytes.truncate(4 * TaskRecord::SIZE + 7);
        let (seen, scan) = pids([Ok(bytes)]);
        assert_eq!(seen, [0, 1, 2, 3]);
        assert!(matches!(
            scan,
            Err(SourceError::Torn {
                records: 4,
                torn: 7
            })
        ));
    }

    #[test]
    fn a_read_that_fails_is_told() {
        let (seen, scan) = pids([Ok(output(2)), Err(libc::EIO)]);
        assert_eq!(seen, [0, 1]);
        assert!(matches!(scan, Err(SourceError::Iterator(_))));
    }
}
