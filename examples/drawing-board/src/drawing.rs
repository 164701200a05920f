//! What is on the board.

use serde::{Deserialize, Serialize};

/// A line that somebody has drawn, or is drawing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Stroke {
    id: String,
    colour: String,
    width: f32,
    points: Vec<(f32, f32)>,
}

/// The next points of a stroke, as its page sends them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Segment {
    id: String,
    colour: String,
    width: f32,
    /// How many points the stroke has already.
    from: usize,
    points: Vec<(f32, f32)>,
}

/// All strokes since the board was last cleared.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Drawing {
    /// How often the board was cleared.
    pub(crate) round: u64,
    strokes: Vec<Stroke>,
    #[serde(skip)]
    points: usize,
}

/// Why a segment was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is malformed, or its stroke was wiped off meanwhile.
    Unfit,
    /// The board is full.
    Full,
}

impl Drawing {
    /// Adds the next points of a stroke.
    pub(crate) fn add(&mut self, segment: &Segment) -> Result<(), Refused> {
        if !segment.is_valid() {
            return Err(Refused::Unfit);
        }
        if self.points + segment.points.len() > MOST_POINTS || self.strokes.len() >= MOST_STROKES {
            return Err(Refused::Full);
        }
        // The strokes that are being drawn are the last ones.
        let known = self.strokes.iter_mut().rev().find(|stroke| stroke.id == segment.id);
        match known {
            Some(stroke) if stroke.points.len() == segment.from => stroke.points.extend(&segment.points),
            None if segment.from == 0 => self.strokes.push(segment.clone().into()),
            _ => return Err(Refused::Unfit),
        }
        self.points += segment.points.len();
        Ok(())
    }

    /// Wipes everything off.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            round: self.round + 1,
            ..Self::default()
        };
    }
}

impl Segment {
    fn is_valid(&self) -> bool {
        let is_on_board = |(x, y): &(f32, f32)| (0.0..=1600.0).contains(x) && (0.0..=1200.0).contains(y);
        (1..=40).contains(&self.id.len())
            && self.colour.len() <= 20
            && (1.0..=40.0).contains(&self.width)
            && (1..=1000).contains(&self.points.len())
            && self.points.iter().all(is_on_board)
    }
}

impl From<Segment> for Stroke {
    fn from(segment: Segment) -> Self {
        Self {
            id: segment.id,
            colour: segment.colour,
            width: segment.width,
            points: segment.points,
        }
    }
}

/// Points and strokes on the board. As JSON they have less than the 1 MiB that a message may have.
const MOST_POINTS: usize = 40_000;
const MOST_STROKES: usize = 2_000;
