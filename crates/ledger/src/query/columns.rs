//! Columns as what they mean.

use std::str::FromStr;

use manifest_schema::OutsideText;
use rusqlite::Row;
use rusqlite::types::Type;

use super::{At, BundleRow, SignatureRow, Status};
use crate::acts::Subject;
use crate::names::EntryNumber;

pub(super) fn bundle_row(row: &Row<'_>) -> rusqlite::Result<BundleRow> {
    let maybe_at = |i| if row.get_ref(i)?.data_type() == Type::Null { Ok(None) } else { at(row, i).map(Some) };
    let (signing, recorded, received, rejected) = (maybe_at(6)?, maybe_at(8)?, maybe_at(11)?, maybe_at(13)?);
    let count = |i| row.get::<_, Option<i64>>(i).map(|n| n.map(i64::cast_unsigned));
    let (last, promoted) = (count(10)?, count(15)?);
    let status = match () {
        () if recorded.is_some() => Status::Recorded,
        () if rejected.is_some() => Status::Rejected,
        () if promoted.is_some() => Status::Promoted,
        () if signing.is_some() => Status::Signing,
        () if received.is_some() => Status::Received,
        () => Status::Begun,
    };
    let images = last.or(promoted).map(|_| last.unwrap_or(0) + promoted.unwrap_or(0));
    let (subject, begun) = (subject(row, 0)?, at(row, 4)?);
    Ok(BundleRow { subject, status, begun, received, rejected, signing, recorded, images })
}

pub(super) fn signature_row(row: &Row<'_>) -> rusqlite::Result<SignatureRow> {
    Ok(SignatureRow {
        recorded: at(row, 0)?,
        bundle: parsed(row, 2)?,
        reference: parsed(row, 3)?,
        digest: parsed(row, 4)?,
        path: OutsideText::new(row.get::<_, String>(5)?),
        file: parsed(row, 6)?,
    })
}

pub(super) fn subject(row: &Row<'_>, i: usize) -> rusqlite::Result<Subject> {
    Ok(Subject {
        bundle: parsed(row, i)?,
        stream: parsed(row, i + 1)?,
        sequence: from_integer(i + 2, row.get(i + 2)?)?,
        manifest: parsed(row, i + 3)?,
    })
}

pub(super) fn at(row: &Row<'_>, i: usize) -> rusqlite::Result<At> {
    Ok(At { entry: number(row, i)?, time: parsed(row, i + 1)? })
}

pub(crate) fn number(row: &Row<'_>, i: usize) -> rusqlite::Result<EntryNumber> {
    from_integer(i, row.get(i)?)
}

pub(super) fn from_integer<T: TryFrom<u64>>(i: usize, n: i64) -> rusqlite::Result<T> {
    let wrong = || rusqlite::Error::IntegralValueOutOfRange(i, n);
    T::try_from(u64::try_from(n).map_err(|_| wrong())?).map_err(|_| wrong())
}

pub(super) fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    i: usize,
) -> rusqlite::Result<T> {
    let text: String = row.get(i)?;
    text.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(i, Type::Text, Box::new(e)))
}

pub(super) fn maybe_parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    i: usize,
) -> rusqlite::Result<Option<T>> {
    if row.get_ref(i)?.data_type() == Type::Null { Ok(None) } else { parsed(row, i).map(Some) }
}
