//! In which order members come into question for a request.
//!
//! It does not choose among members of one rank: that is the policy's.

use super::member::{Member, Standing};
use super::{MemberId, Tried};
use crate::driver::Time;

/// The ranks, the first first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    Fresh,
    FreshBackup,
    Tried,
    TriedBackup,
}

impl Rank {
    const ALL: [Self; 4] = [Self::Fresh, Self::FreshBackup, Self::Tried, Self::TriedBackup];

    /// The member's rank for a request that has tried these; `None`: it is being drained.
    pub(super) fn of(id: MemberId, member: &Member, tried: &Tried) -> Option<Self> {
        let rank = match (member.is_backup, tried.contains(id)) {
            (false, false) => Self::Fresh,
            (true, false) => Self::FreshBackup,
            (false, true) => Self::Tried,
            (true, true) => Self::TriedBackup,
        };
        (!member.is_draining()).then_some(rank)
    }

    /// Whether the member is of this rank and has a place for the request.
    pub(super) fn is_open(self, id: MemberId, member: &Member, tried: &Tried, now: Time) -> bool {
        Self::of(id, member, tried) == Some(self) && member.standing(now) == Standing::Open
    }
}

/// Of each rank, whether a member is up, and whether one of them has a place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survey {
    is_up: [bool; Rank::ALL.len()],
    is_open: [bool; Rank::ALL.len()],
}

impl Survey {
    pub(super) fn new<'a>(members: impl Iterator<Item = (MemberId, &'a Member)>, tried: &Tried, now: Time) -> Self {
        let mut survey = Self::default();
        for (id, member) in members {
            let Some(rank) = Rank::of(id, member, tried) else { continue };
            let standing = member.standing(now);
            survey.is_up[rank as usize] |= standing != Standing::Down;
            survey.is_open[rank as usize] |= standing == Standing::Open;
        }
        survey
    }

    /// The rank that the request should go to, if there is a place for it.
    pub(super) fn rank(&self) -> Option<Rank> {
        let is_up = |rank: Rank| self.is_up[rank as usize];
        let is_allowed = |rank: &Rank| match rank {
            Rank::Fresh | Rank::Tried => true,
            Rank::FreshBackup => !is_up(Rank::Fresh),
            Rank::TriedBackup => !is_up(Rank::Fresh) && !is_up(Rank::Tried),
        };
        Rank::ALL.into_iter().filter(is_allowed).find(|rank| self.is_open[*rank as usize])
    }

    /// Whether the request can hope for a place.
    pub(super) fn is_any_up(&self) -> bool {
        self.is_up.contains(&true)
    }
}
