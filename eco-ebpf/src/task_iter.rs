// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `iter/task`: one record per thread that is alive.

use core::mem::MaybeUninit;

use aya_ebpf::{bindings::seq_file, helpers::bpf_seq_write};
use eco_common::TaskRecord;

use crate::kernel::{self, Kernel};

/// `struct bpf_iter__task`, kernel/bpf/task_iter.c: two pointers, each in eight bytes.
#[repr(C)]
struct IterContext {
    /// `struct bpf_iter_meta *`; its first field is the `struct seq_file *`.
    meta: *const *mut seq_file,
    /// `struct task_struct *`; null once, after the last task.
    task: Kernel,
}

/// Called by the kernel once per task each time user space reads the iterator to its end.
// aya-ebpf 0.2 has no macro for iterators; the section's name is all that the loader needs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn eco_tasks(context: *const IterContext) -> i32 {
    // SAFETY: the kernel passes a valid context; both fields are read as it declares them.
    let (meta, task) = unsafe { ((*context).meta, (*context).task) };
    if task.is_null() {
        return 0;
    }
    let mut record = MaybeUninit::<TaskRecord>::uninit();
    // SAFETY: `describe` writes every field, and the struct has no padding.
    kernel::describe(task, unsafe { &mut *record.as_mut_ptr() });
    // SAFETY: `meta` is valid for this call, and the record is initialised. When the buffer is
    // full the kernel drops this record and shows the task again in the next read.
    unsafe { bpf_seq_write(*meta, record.as_ptr().cast(), TaskRecord::SIZE as u32) };
    0
}
