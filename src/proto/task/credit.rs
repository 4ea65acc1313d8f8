//! How much of a task's input and output may be under way. WebRTC between browsers holds nobody back, so the two sides do: bytes are sent
//! as far as the other side gave credit for them, and it gives more as what came is taken.

use super::message::WINDOW;
use crate::base::Reject;

/// What may be sent.
#[derive(Debug)]
pub struct Sending(u32);

impl Default for Sending {
    /// The whole window.
    fn default() -> Self {
        Sending(WINDOW)
    }
}

impl Sending {
    /// Bytes that may be sent now.
    #[must_use]
    pub fn credit(&self) -> usize {
        self.0 as usize
    }

    /// So many, at most the credit, are sent.
    pub fn sent(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The other side gives more.
    ///
    /// # Errors
    /// [`Reject::Malformed`] if it has no more to give, or gives nothing.
    pub fn more(&mut self, credit: u32) -> Result<(), Reject> {
        self.0 = self.0.checked_add(credit).filter(|all| credit > 0 && *all <= WINDOW).ok_or(Reject::Malformed)?;
        Ok(())
    }
}

/// What may come.
#[derive(Debug)]
pub struct Receiving {
    credit: u32,
    /// Taken, but not given back yet.
    taken: u32,
}

impl Default for Receiving {
    /// The whole window.
    fn default() -> Self {
        Receiving { credit: WINDOW, taken: 0 }
    }
}

impl Receiving {
    /// So many came.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] if there was no credit for them.
    pub fn came(&mut self, bytes: usize) -> Result<(), Reject> {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.credit.checked_sub(bytes));
        self.credit = left.ok_or(Reject::TooLarge)?;
        Ok(())
    }

    /// So many of those that came were taken.
    pub fn taken(&mut self, bytes: usize) {
        self.taken += u32::try_from(bytes).unwrap_or(u32::MAX).min(WINDOW - self.credit - self.taken);
    }

    /// Credit to be given to the other side, once it is worth a message.
    pub fn due(&mut self) -> Option<u32> {
        if self.taken < WINDOW / 4 {
            return None;
        }
        self.credit += self.taken;
        Some(core::mem::take(&mut self.taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::task::message::PART;

    #[test]
    fn nobody_sends_more_than_is_taken_and_who_takes_all_lets_send_on() {
        let (mut sending, mut receiving) = (Sending::default(), Receiving::default());
        let mut under_way = 0;
        for _ in 0..1_000 {
            while sending.credit() > 0 {
                let part = PART.min(sending.credit());
                sending.sent(part);
                receiving.came(part).unwrap();
                under_way += part;
            }
            assert!(under_way <= WINDOW as usize);
            assert_eq!(receiving.came(1), Err(Reject::TooLarge));
            assert_eq!(receiving.due(), None, "nothing was taken");
            while receiving.taken < WINDOW / 4 {
                receiving.taken(1_000);
                under_way -= 1_000;
            }
            let due = receiving.due().unwrap();
            assert_eq!(receiving.due(), None);
            sending.more(due).unwrap();
        }
    }

    #[test]
    fn credit_beyond_the_window_is_refused() {
        let mut sending = Sending::default();
        assert_eq!(sending.more(1), Err(Reject::Malformed));
        sending.sent(10);
        assert_eq!(sending.more(11), Err(Reject::Malformed));
        assert_eq!(sending.more(0), Err(Reject::Malformed));
        assert_eq!(sending.more(u32::MAX), Err(Reject::Malformed));
        assert_eq!((sending.more(10), sending.credit()), (Ok(()), WINDOW as usize));
        let mut receiving = Receiving::default();
        receiving.taken(usize::MAX);
        assert_eq!(receiving.due(), None, "what did not come cannot be taken");
        assert_eq!(receiving.came(usize::MAX), Err(Reject::TooLarge));
    }
}
