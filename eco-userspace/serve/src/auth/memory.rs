// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Remembers a few answers for a short while.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Answers by question. It never holds more than it was told to, nor for longer.
#[derive(Debug)]
pub(super) struct Memory<K, V> {
    answers: Mutex<HashMap<K, (Instant, V)>>,
    most: usize,
    believed: Duration,
}

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    pub(super) fn new(most: usize, believed: Duration) -> Self {
        Self {
            answers: Mutex::new(HashMap::new()),
            most,
            believed,
        }
    }

    pub(super) fn get(&self, question: &K) -> Option<V> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = answers.get(question)?;
        (at.elapsed() < self.believed).then(|| answer.clone())
    }

    pub(super) fn put(&self, question: K, answer: V) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= self.most {
            answers.retain(|_, (at, _)| at.elapsed() < self.believed);
            // All of them fresh: somebody asks a new question each time. Begin anew.
            if answers.len() >= self.most {
                answers.clear();
            }
        }
        answers.insert(question, (Instant::now(), answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_no_more_than_it_was_told_to() {
        let memory = Memory::new(10, Duration::from_secs(60));
        for question in 0..1000 {
            memory.put(question, ());
            assert!(memory.answers.lock().unwrap().len() <= 10);
        }
        assert_eq!(memory.get(&999), Some(()));
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let memory = Memory::new(10, Duration::ZERO);
        memory.put(1, ());
        assert_eq!(memory.get(&1), None);
    }
}
