//! The codec of every service here: protobuf, with buffers that begin small.
//!
//! A stream that stays open for months, such as a watch, keeps its two buffers, and a CA has thousands of those. The library
//! reserves 8 KiB for each; most messages here are far smaller, and larger ones make room for themselves.

use prost::Message;
use std::marker::PhantomData;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Sends `T`, receives `U`.
pub(crate) struct Lean<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Lean<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Lean<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(small())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(small())
    }
}

/// 256 bytes at first, and as a step when more are needed; handed on at 32 KiB, which is the library's own value.
fn small() -> BufferSettings {
    BufferSettings::new(256, 32 * 1024)
}
