// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where in the machine one looks: the whole node, or a unit of a unit of it.

use eco_agent::api::Unit;

use super::kind::{Kind, key};

/// What is to be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// What is listed.
    pub(crate) kind: Kind,
    /// Only what lies in this unit, as the API's `within` takes it.
    pub(crate) within: Option<String>,
    /// All, however little power they use.
    pub(crate) all: bool,
}

impl Scope {
    /// Whether data for `other` is data for this too.
    pub(crate) fn lists_the_same_as(&self, other: &Self) -> bool {
        self.kind == other.kind && self.within == other.within
    }
}

/// A unit that was gone into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// What was listed when it was chosen.
    pub(crate) kind: Kind,
    /// Which one it is.
    pub(crate) key: String,
    /// What to show a person.
    pub(crate) label: String,
}

/// The way from the node to what is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    levels: Vec<Level>,
    kind: Kind,
}

impl Place {
    /// The whole node, by units of a kind.
    pub(crate) fn node(kind: Kind) -> Self {
        Self {
            levels: Vec::new(),
            kind,
        }
    }

    /// What is listed.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The units that were gone into, the outermost first.
    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// As the API's `within`.
    pub(crate) fn within(&self) -> Option<String> {
        let innermost = self.levels.last()?;
        Some(format!("{}:{}", innermost.kind.label(), innermost.key))
    }

    /// What can be listed here.
    pub(crate) fn kinds(&self) -> &'static [Kind] {
        match self.levels.last() {
            None => &Kind::ALL,
            Some(level) => level.kind.parts(),
        }
    }

    /// Lists another kind here; one that this place does not have changes nothing.
    pub(crate) fn list(&mut self, kind: Kind) {
        if self.kinds().contains(&kind) {
            self.kind = kind;
        }
    }

    /// Lists the kind so many further on, in a circle.
    pub(crate) fn turn(&mut self, by: isize) {
        let kinds = self.kinds();
        let at = kinds.iter().position(|&kind| kind == self.kind);
        let count = isize::try_from(kinds.len()).unwrap_or(1).max(1);
        let at = isize::try_from(at.unwrap_or(0)).unwrap_or(0);
        self.kind = kinds[usize::try_from((at + by).rem_euclid(count)).unwrap_or(0)];
    }

    /// Goes into a unit of the kind that is listed. A process has no inside: `false`.
    pub(crate) fn enter(&mut self, unit: &Unit) -> bool {
        let Some(&inside) = self.kind.parts().first() else {
            return false;
        };
        let label = match (&unit.container, unit.label.is_empty(), self.kind) {
            (Some(name), ..) => name,
            // The name of a pod has its namespace.
            (None, true, _) | (None, _, Kind::Pod) => &unit.name,
            (None, false, _) => &unit.label,
        };
        self.levels.push(Level {
            kind: self.kind,
            key: key(unit).to_owned(),
            label: label.clone(),
        });
        self.kind = inside;
        true
    }

    /// Goes back until so many levels are left. Gives the key of the unit that was left last.
    pub(crate) fn leave_to(&mut self, depth: usize) -> Option<String> {
        let left = self.levels.drain(depth.min(self.levels.len())..).next()?;
        self.kind = left.kind;
        Some(left.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Unit {
        Unit {
            kind: "pod".into(),
            name: "shop/web-0".into(),
            label: "web-0".into(),
            uid: Some("12-ab".into()),
            ..Unit::default()
        }
    }

    #[test]
    fn one_goes_from_a_pod_to_its_container_to_its_processes_and_back() {
        let mut place = Place::node(Kind::Pod);
        assert_eq!(place.within(), None);
        assert!(place.enter(&pod()));
        assert_eq!(place.within().as_deref(), Some("pod:12-ab"));
        assert_eq!(place.kind(), Kind::Container);
        let container = Unit {
            name: "c0ffee".into(),
            label: "c0ffee".into(),
            container: Some("main".into()),
            ..Unit::default()
        };
        assert!(place.enter(&container));
        assert_eq!(place.within().as_deref(), Some("container:c0ffee"));
        assert_eq!(place.kind(), Kind::Process);
        assert!(!place.enter(&Unit::default()), "a process is the last");
        let labels: Vec<&str> = place.levels().iter().map(|l| l.label.as_str()).collect();
        assert_eq!(labels, ["shop/web-0", "main"]);

        assert_eq!(place.leave_to(1).as_deref(), Some("c0ffee"));
        assert_eq!(place.kind(), Kind::Container);
        assert_eq!(place.leave_to(0).as_deref(), Some("12-ab"));
        assert_eq!(place, Place::node(Kind::Pod));
        assert_eq!(place.leave_to(0), None);
    }

    #[test]
    fn kinds_go_round_among_those_that_a_place_has() {
        let mut place = Place::node(Kind::Process);
        place.turn(-1);
        assert_eq!(place.kind(), Kind::Run);
        place.turn(2);
        assert_eq!(place.kind(), Kind::Pod);
        place.enter(&pod());
        place.turn(1);
        assert_eq!(place.kind(), Kind::Process);
        place.turn(1);
        assert_eq!(place.kind(), Kind::Container);
        place.list(Kind::User);
        assert_eq!(
            place.kind(),
            Kind::Container,
            "a pod is not asked for users"
        );
    }
}
