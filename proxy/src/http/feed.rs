//! A body handed over piece by piece between two tasks of one worker: one writes, the other reads, one piece at a time.

use super::body::BodyError;
use bytes::Bytes;
use http_body::Frame;
use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// The writing end. Dropped before [`Feeder::finish`], it breaks the body off.
pub(crate) struct Feeder(Rc<RefCell<State>>);

/// The reading end.
pub(crate) struct Fed(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    piece: Option<Frame<Bytes>>,
    finished: bool,
    writer_gone: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Makes both ends.
pub(crate) fn feed() -> (Feeder, Fed) {
    let state = Rc::new(RefCell::new(State::default()));
    (Feeder(Rc::clone(&state)), Fed(state))
}

impl Feeder {
    /// Ready when the next piece can be handed over; an error when nobody reads any more.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let mut state = self.0.borrow_mut();
        if state.reader_gone {
            return Poll::Ready(Err("nobody reads the body".into()));
        }
        if state.piece.is_none() {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Hands a piece over; only after [`Self::poll_ready`].
    pub(crate) fn put(&self, piece: Frame<Bytes>) {
        let mut state = self.0.borrow_mut();
        state.piece = Some(piece);
        wake(state.reader.take());
    }

    /// The body is whole.
    pub(crate) fn finish(&self) {
        let mut state = self.0.borrow_mut();
        state.finished = true;
        wake(state.reader.take());
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.writer_gone = true;
        wake(state.reader.take());
    }
}

impl Fed {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.0.borrow_mut();
        if let Some(piece) = state.piece.take() {
            wake(state.writer.take());
            return Poll::Ready(Some(Ok(piece)));
        }
        if state.finished {
            return Poll::Ready(None);
        }
        if state.writer_gone {
            return Poll::Ready(Some(Err("the body broke off".into())));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Nothing more will come.
    pub(crate) fn is_ended(&self) -> bool {
        let state = self.0.borrow();
        state.finished && state.piece.is_none()
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.reader_gone = true;
        wake(state.writer.take());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
