//! Bytes of varying length: one buffer, and where each value ends.

use arrow_buffer::{ArrowNativeType, Buffer, OffsetBuffer, ScalarBuffer};

use crate::decode::reject::{Misfit, RejectKind};

/// Offsets of an Arrow array: 0, then the end of every value. `O` is `i32` or `i64`.
pub(super) struct Offsets<O> {
    ends: Vec<O>,
    limit: usize,
}

impl<O: ArrowNativeType> Offsets<O> {
    /// Makes the offsets of no value, for values that may end at most at `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            ends: vec![O::usize_as(0)],
            limit,
        }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len().saturating_sub(1)
    }

    /// Where the last value ends.
    pub(super) fn end(&self) -> usize {
        self.ends.last().map_or(0, |end| end.as_usize())
    }

    /// Where a value starts and ends.
    pub(super) fn span(&self, place: usize) -> (usize, usize) {
        let at = |place: usize| self.ends.get(place).map_or(0, |end| end.as_usize());
        (at(place), at(place + 1))
    }

    /// Says whether a value may end there.
    ///
    /// # Errors
    /// A misfit, if the offset type cannot say so: the record has to wait for the next batch.
    #[inline]
    pub(super) fn check(&self, end: usize) -> Result<(), Misfit> {
        if end <= self.limit {
            Ok(())
        } else {
            Err(Misfit::new(
                RejectKind::TooLarge,
                "the column is full: its values take more bytes or elements than one batch can address",
            ))
        }
    }

    /// Appends the end of a value, which [`Offsets::check`] allowed.
    #[inline]
    pub(super) fn push(&mut self, end: usize) {
        self.ends.push(O::usize_as(end));
    }

    /// Cuts back to `len` values.
    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len + 1);
    }

    /// Roughly the bytes held.
    pub(super) fn held_bytes(&self) -> usize {
        self.ends.len() * size_of::<O>()
    }

    /// Takes the offsets and leaves those of no value.
    pub(super) fn finish(&mut self) -> OffsetBuffer<O>
    where
        O: arrow_array::OffsetSizeTrait,
    {
        let ends = std::mem::replace(&mut self.ends, vec![O::usize_as(0)]);
        // Ends only grow, so the check of the constructor holds.
        OffsetBuffer::new(ScalarBuffer::from(ends))
    }
}

/// Values of varying length: their offsets and their bytes.
pub(super) struct VarBytes<O> {
    offsets: Offsets<O>,
    bytes: Vec<u8>,
}

impl<O: ArrowNativeType> VarBytes<O> {
    /// Makes a buffer of no value, which may hold at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            offsets: Offsets::new(limit),
            bytes: Vec::new(),
        }
    }

    /// Appends a value.
    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) -> Result<(), Misfit> {
        self.offsets.check(self.bytes.len().saturating_add(value.len()))?;
        self.bytes.extend_from_slice(value);
        self.offsets.push(self.bytes.len());
        Ok(())
    }

    /// Appends an empty value.
    pub(super) fn push_empty(&mut self) {
        self.offsets.push(self.bytes.len());
    }

    /// A value.
    pub(super) fn value(&self, place: usize) -> &[u8] {
        let (start, end) = self.offsets.span(place);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Cuts back to `len` values.
    pub(super) fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len);
        self.bytes.truncate(self.offsets.end());
    }

    /// Roughly the bytes held.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len() + self.offsets.held_bytes()
    }

    /// Takes the values and leaves none.
    pub(super) fn finish(&mut self) -> (OffsetBuffer<O>, Buffer)
    where
        O: arrow_array::OffsetSizeTrait,
    {
        let bytes = std::mem::take(&mut self.bytes);
        (self.offsets.finish(), Buffer::from_vec(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_past_the_limit_is_a_misfit_and_changes_nothing() {
        let mut values = VarBytes::<i32>::new(4);
        values.push(b"abc").unwrap();
        assert_eq!(values.push(b"de").unwrap_err().kind, RejectKind::TooLarge);
        values.push(b"f").unwrap();
        assert_eq!(values.value(1), b"f");
        let (offsets, bytes) = values.finish();
        assert_eq!(&offsets[..], [0, 3, 4]);
        assert_eq!(bytes.as_slice(), b"abcf");
    }
}
