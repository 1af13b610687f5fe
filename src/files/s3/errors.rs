//! What an error of S3 means, in words for the operator: a cause and a code, never a credential.

use std::error::Error;
use std::io::{Error as Cause, ErrorKind};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::{Bucket, StageError};

/// An error with what was being done, `what` and the object's place.
pub(super) fn failed<E>(
    what: &str,
    bucket: &Bucket,
    key: &str,
) -> impl FnOnce(SdkError<E, HttpResponse>) -> StageError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let name = bucket.name().to_owned();
    let what = format!("{what} s3://{name}/{key}");
    move |error| StageError {
        what,
        source: cause(&error, &name),
    }
}

/// Whether it says that there is no such object, and not that there is no such bucket.
pub(super) fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    match code(error) {
        Some(code) => code == "NoSuchKey" || code == "NotFound",
        None => status(error) == Some(404),
    }
}

/// Whether it says that there is no such upload: it has ended, or was ended.
pub(super) fn is_ended<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    code(error) == Some("NoSuchUpload")
}

/// Whether the store cannot do this at all.
pub(super) fn is_unknown<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    matches!(status(error), Some(405 | 501))
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(|error| error.code())
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|answer| answer.status().as_u16())
}

fn cause<E>(error: &SdkError<E, HttpResponse>, bucket: &str) -> Cause
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = status(error);
    let Some(service) = error.as_service_error() else {
        return match error {
            SdkError::TimeoutError(_) => {
                Cause::new(ErrorKind::TimedOut, "there was no answer in time")
            }
            SdkError::ResponseError(_) => {
                let status = status.map_or_else(String::new, |status| format!(" (HTTP {status})"));
                Cause::other(format!("the answer is none of S3's{status}"))
            }
            other => unsent(other),
        };
    };
    match (service.code().unwrap_or_default(), status) {
        (code @ "NoSuchBucket", _) => Cause::new(
            ErrorKind::NotFound,
            format!(
                "there is no bucket {bucket} ({code}); make it, or name another with --objects"
            ),
        ),
        (
            code @ ("InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "NotSignedUp"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "TokenRefreshRequired"),
            _,
        ) => Cause::new(
            ErrorKind::PermissionDenied,
            format!("the credentials are not accepted ({code})"),
        ),
        (
            code @ ("PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"),
            _,
        )
        | (code @ "", Some(301)) => Cause::other(format!(
            "the bucket {bucket} is in another region ({code}); set AWS_REGION, or region under [s3]"
        )),
        ("" | "NotFound" | "NoSuchKey", Some(404)) => {
            Cause::new(ErrorKind::NotFound, "there is no such object")
        }
        (code, Some(403)) => {
            let code = if code.is_empty() { "HTTP 403" } else { code };
            Cause::new(
                ErrorKind::PermissionDenied,
                format!("these credentials may not do it in the bucket {bucket} ({code})"),
            )
        }
        // What a store writes about a code that we do not know may repeat what was sent.
        (code, status) => Cause::other(format!(
            "the store answered {}{}",
            if code.is_empty() { "an error" } else { code },
            status.map_or_else(String::new, |status| format!(" (HTTP {status})")),
        )),
    }
}

/// What did not even get an answer: the causes below it, each once.
fn unsent(error: &dyn Error) -> Cause {
    let mut texts: Vec<String> = Vec::new();
    let mut below = error.source();
    while let Some(error) = below {
        let text = error.to_string();
        if !texts.iter().any(|told| told.contains(&text)) {
            texts.push(text);
        }
        below = error.source();
    }
    let texts = texts.join(": ");
    if texts.contains("credential") {
        return Cause::new(
            ErrorKind::PermissionDenied,
            format!(
                "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role ({texts})"
            ),
        );
    }
    Cause::other(format!("the store cannot be reached: {texts}"))
}
