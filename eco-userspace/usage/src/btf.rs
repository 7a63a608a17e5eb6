// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A reader for the kernel's own type information, as much as finding a field takes.
//!
//! Format: Documentation/bpf/btf.rst of the kernel. Every access is checked: the file is
//! trusted to be the kernel's, not to be whole.

use std::{fs, io, path::Path};

/// Where the running kernel publishes its types.
pub const KERNEL: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_INT: u32 = 1;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

/// Anonymous members nest a few levels in the kernel; a file that nests deeper is broken.
const DEEPEST: u32 = 16;

/// Why the types could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is not there or may not be read.
    #[error("{path}: {source}; a kernel built with CONFIG_DEBUG_INFO_BTF has it")]
    Unreadable {
        /// The file.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is not BTF, or is cut off.
    #[error("{0} is no whole BTF file")]
    Malformed(String),
}

/// A parsed file.
pub struct Btf {
    bytes: Vec<u8>,
    /// Where each type starts; type ids count from one, so entry 0 is type 1.
    types: Vec<u32>,
    strings: usize,
}

#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    members: u32,
    bitfields: bool,
    /// Where what follows the header starts.
    body: usize,
}

impl Btf {
    /// Reads and indexes a BTF file.
    ///
    /// # Errors
    /// When it cannot be read or is not whole.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let bytes = fs::read(path).map_err(|source| BtfError::Unreadable {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(bytes).ok_or_else(|| BtfError::Malformed(path.display().to_string()))
    }

    /// The offset in bytes of a field, or `None`. `path` may go through nested structs:
    /// `se.sum_exec_runtime`. Members of anonymous structs and unions are found as C finds them.
    #[must_use]
    pub fn field(&self, structure: &str, path: &str) -> Option<u32> {
        // A name may be defined more than once (forward uses, modules): take one that has it.
        (1..=self.types.len() as u32)
            .filter(|&id| {
                self.get(id)
                    .is_some_and(|t| t.kind == KIND_STRUCT && self.is(t.name, structure))
            })
            .find_map(|id| self.field_of(id, path))
    }

    /// The value of an enumerator, or `None`.
    #[must_use]
    pub fn enumerator(&self, enumeration: &str, name: &str) -> Option<u32> {
        let mut types = (1..=self.types.len() as u32).filter_map(|id| self.get(id));
        let found = types.find(|t| t.kind == KIND_ENUM && self.is(t.name, enumeration))?;
        (0..found.members as usize).find_map(|i| {
            let at = found.body + i * 8;
            self.is(self.u32(at)?, name).then(|| self.u32(at + 4))?
        })
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let mut btf = Self {
            bytes,
            types: Vec::new(),
            strings: 0,
        };
        if u16::from_le_bytes(btf.bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header = btf.u32(4)? as usize;
        let types = header.checked_add(btf.u32(8)? as usize)?;
        let types_end = types.checked_add(btf.u32(12)? as usize)?;
        btf.strings = header.checked_add(btf.u32(16)? as usize)?;
        if types_end > btf.bytes.len() || btf.strings > btf.bytes.len() {
            return None;
        }
        let mut at = types;
        while at < types_end {
            btf.types.push(u32::try_from(at).ok()?);
            at = at.checked_add(12 + btf.body_length(at)?)?;
        }
        Some(btf)
    }

    /// How many bytes follow the header of the type at `at`.
    fn body_length(&self, at: usize) -> Option<usize> {
        let info = self.u32(at + 4)?;
        let members = (info & 0xffff) as usize;
        Some(match (info >> 24) & 0x1f {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => members * 12,
            KIND_ENUM | KIND_FUNC_PROTO => members * 8,
            _ => 0,
        })
    }

    fn get(&self, id: u32) -> Option<Type> {
        let at = *self.types.get(id.checked_sub(1)? as usize)? as usize;
        let info = self.u32(at + 4)?;
        Some(Type {
            name: self.u32(at)?,
            kind: (info >> 24) & 0x1f,
            members: info & 0xffff,
            bitfields: info >> 31 != 0,
            body: at + 12,
        })
    }

    fn field_of(&self, id: u32, path: &str) -> Option<u32> {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let (offset, member) = self.member(id, first, DEEPEST)?;
        match rest {
            None => Some(offset),
            Some(rest) => offset.checked_add(self.field_of(member, rest)?),
        }
    }

    /// The offset and the type of the member called `name`.
    fn member(&self, id: u32, name: &str, depth: u32) -> Option<(u32, u32)> {
        let owner = self
            .get(id)
            .filter(|t| matches!(t.kind, KIND_STRUCT | KIND_UNION))?;
        (0..owner.members as usize).find_map(|i| {
            let at = owner.body + i * 12;
            let (member_name, member_type) = (self.u32(at)?, self.u32(at + 4)?);
            let bits = self.u32(at + 8)?;
            let bits = if owner.bitfields {
                bits & 0x00ff_ffff
            } else {
                bits
            };
            if self.is(member_name, name) {
                return Some((bits / 8, member_type));
            }
            if !self.is(member_name, "") || depth == 0 {
                return None;
            }
            let (inner, found) = self.member(member_type, name, depth - 1)?;
            Some((inner.checked_add(bits / 8)?, found))
        })
    }

    fn is(&self, name: u32, wanted: &str) -> bool {
        let start = self.strings.saturating_add(name as usize);
        let wanted = wanted.as_bytes();
        self.bytes
            .get(start..)
            .is_some_and(|rest| rest.starts_with(wanted) && rest.get(wanted.len()) == Some(&0))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Option<Btf> {
        match Btf::read(Path::new(KERNEL)) {
            Ok(btf) => Some(btf),
            Err(why) => {
                println!("skipped: {why}");
                None
            }
        }
    }

    #[test]
    fn finds_fields_of_the_running_kernel() {
        let Some(btf) = kernel() else { return };
        assert!(btf.field("task_struct", "pid").is_some());
        let entity = btf.field("task_struct", "se").unwrap();
        let runtime = btf.field("sched_entity", "sum_exec_runtime").unwrap();
        assert_eq!(
            btf.field("task_struct", "se.sum_exec_runtime"),
            Some(entity + runtime)
        );
        assert_eq!(btf.field("task_struct", "no_such_field"), None);
        assert_eq!(btf.field("no_such_struct", "pid"), None);
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_or_read_without_a_panic() {
        let Some(btf) = kernel() else { return };
        for length in [
            0,
            1,
            2,
            8,
            23,
            24,
            25,
            1000,
            btf.bytes.len() / 2,
            btf.bytes.len() - 1,
        ] {
            if let Some(cut) = Btf::parse(btf.bytes[..length].to_vec()) {
                let _ = cut.field("task_struct", "pid");
            }
        }
    }

    #[test]
    fn noise_is_refused() {
        assert!(Btf::parse(vec![0xff; 4096]).is_none());
        let mut huge = vec![0u8; 64];
        huge[..2].copy_from_slice(&MAGIC.to_le_bytes());
        huge[4..24].fill(0xff);
        assert!(Btf::parse(huge).is_none());
    }
}
