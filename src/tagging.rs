//! The port to the Resource Groups Tagging API, in our own types.

use crate::config::EnrollTag;
use crate::queue::{QueueArn, TaggedQueue};
use crate::sqs::{MAX_MESSAGE_CHARS, without_code};
use crate::text::one_line;
use aws_sdk_resourcegroupstagging::Client;
use aws_sdk_resourcegroupstagging::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_resourcegroupstagging::types::{ResourceTagMapping, TagFilter};
use std::error::Error;
use std::sync::LazyLock;

/// The calls to the tagging API that enrolment by tag takes. Both are about the function's own
/// account and region.
pub trait Tagging {
    /// Every queue that bears the tag. One that was deleted lately may still be among them.
    fn tagged(
        &self,
        tag: &EnrollTag,
    ) -> impl Future<Output = Result<Vec<TaggedQueue>, TaggingError>>;

    /// Those of these queues that bear the tag. One call for every 100.
    fn tagged_among(
        &self,
        queues: &[QueueArn],
        tag: &EnrollTag,
    ) -> impl Future<Output = Result<Vec<TaggedQueue>, TaggingError>>;
}

/// Why the tags could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaggingError {
    /// The function may not ask.
    #[error("access denied; grant `tag:GetResources`: {0}")]
    AccessDenied(String),
    /// Anything else.
    #[error("`tag:GetResources` failed: {0}")]
    Service(String),
}

/// The tagging API itself, with a client that is made when it is first used, or by [`make`](Self::make):
/// without an enrol tag it never is.
pub struct TaggingClient {
    client: LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>,
}

/// `GetResources` takes, and gives, so many resources.
const RESOURCES_PER_CALL: usize = 100;

impl TaggingClient {
    /// Makes a client for the function's own region.
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        let config = config.clone();
        Self {
            client: LazyLock::new(Box::new(move || Client::new(&config))),
        }
    }

    /// Makes the client now.
    pub fn make(&self) {
        LazyLock::force(&self.client);
    }
}

impl Tagging for TaggingClient {
    async fn tagged(&self, tag: &EnrollTag) -> Result<Vec<TaggedQueue>, TaggingError> {
        let filter = TagFilter::builder()
            .key(&tag.key)
            .set_values(tag.value.clone().map(|value| vec![value]))
            .build();
        let mut pages = self
            .client
            .get_resources()
            // A service, not a type: SQS has resources of one type only, and that has no name here.
            .resource_type_filters("sqs")
            .tag_filters(filter)
            .into_paginator()
            .page_size(100)
            .send();
        let mut queues = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(fault)?;
            let resources = page.resource_tag_mapping_list();
            queues.extend(
                resources
                    .iter()
                    .filter_map(|resource| tagged_queue(resource, tag)),
            );
        }
        Ok(queues)
    }

    async fn tagged_among(
        &self,
        queues: &[QueueArn],
        tag: &EnrollTag,
    ) -> Result<Vec<TaggedQueue>, TaggingError> {
        let mut tagged = Vec::new();
        for queues in queues.chunks(RESOURCES_PER_CALL) {
            let arns = queues.iter().map(QueueArn::to_string).collect();
            let answer = self
                .client
                .get_resources()
                .set_resource_arn_list(Some(arns))
                .send()
                .await
                .map_err(fault)?;
            let resources = answer.resource_tag_mapping_list();
            tagged.extend(
                resources
                    .iter()
                    .filter_map(|resource| tagged_queue(resource, tag)),
            );
        }
        Ok(tagged)
    }
}

/// `None` for what is no queue or does not bear the tag.
fn tagged_queue(resource: &ResourceTagMapping, tag: &EnrollTag) -> Option<TaggedQueue> {
    let dlq = resource.resource_arn()?.parse().ok()?;
    let is_tag = |key: &str, value: &str| {
        key == tag.key && tag.value.as_ref().is_none_or(|wanted| value == wanted)
    };
    let tags = resource.tags();
    tags.iter()
        .find(|found| is_tag(found.key(), found.value()))?;
    let settings = tags.iter().filter_map(|found| {
        let name = found.key().strip_prefix(&tag.key)?.strip_prefix(':')?;
        Some((name.to_owned(), found.value().to_owned()))
    });
    Some(TaggedQueue {
        dlq,
        settings: settings.collect(),
    })
}

fn fault<E>(error: SdkError<E>) -> TaggingError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let Some(code) = error.code() else {
        return TaggingError::Service(without_code("the tagging API", &error));
    };
    let message = error.message().unwrap_or("the tagging API gave no reason");
    let code = &one_line(code, MAX_MESSAGE_CHARS);
    let message = one_line(message, MAX_MESSAGE_CHARS);
    match code.as_str() {
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            TaggingError::AccessDenied(message)
        }
        _ => TaggingError::Service(format!("{code}: {message}")),
    }
}

#[cfg(test)]
mod tests;
