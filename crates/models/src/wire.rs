//! One request through the library that speaks the providers' formats.

mod vector;

use crate::{
    ModelConfig,
    config::seconds,
    failure::{Again, Failure, Kind},
    http,
    library::{broken_off, of_library, refused},
    provider::Provider,
    secret::Key,
    seen::{Frames, Seen, counted, looks_like_a_reply, refusal_in},
    text,
};
use forerunner_core::{Error, Message, Result, Role};
use futures::StreamExt;
use genai::{
    Client, ModelIden,
    adapter::AdapterKind,
    chat::{ChatMessage, ChatOptions, ChatRequest, ChatStreamEvent, StopReason},
    resolver::{AuthData, Endpoint, ProviderConfig},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// How one model is reached.
#[derive(Clone)]
pub(crate) struct Line {
    client: Client,
    target: ModelIden,
    options: ChatOptions,
    stream: bool,
    timeout: Duration,
    idle_timeout: Duration,
    max_reply_bytes: usize,
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) text: String,
    /// Whether it ended at the limit on its length.
    pub(crate) cut: bool,
}

impl Line {
    /// Prepares the connection; sends nothing.
    ///
    /// # Errors
    /// When the certificates of the system cannot be read.
    pub(crate) fn new(config: &ModelConfig, provider: &Provider, key: &Key) -> Result<Self> {
        let auth = match key {
            Key::Present(secret) => AuthData::from_single(secret.reveal()),
            // The adapters want some word; servers without keys ignore it.
            Key::Unneeded | Key::Missing(_) => AuthData::from_single("none"),
        };
        let endpoint = provider.base_url.clone().map(Endpoint::from_owned);
        let place = ProviderConfig::from((Some(auth), endpoint));
        let client = Client::builder()
            .with_reqwest(http::client(config, provider)?)
            .append_provider_config(provider.kind, place)
            .build()
            .map_err(|_| Error::failed(format!("cannot prepare a client for `{}`", config.name)))?;
        let options = ChatOptions {
            temperature: config.temperature,
            top_p: config.top_p,
            reasoning_effort: provider.effort.clone(),
            extra_body: (!config.extra_body.is_empty())
                .then(|| Value::Object(config.extra_body.clone())),
            capture_usage: Some(true),
            // We collect the text ourselves, so that a huge one is not collected at all.
            capture_content: Some(false),
            capture_reasoning_content: Some(false),
            capture_tool_calls: Some(false),
            capture_raw_body: Some(!config.stream),
            ..ChatOptions::default()
        };
        Ok(Self {
            client,
            target: ModelIden::new(provider.kind, config.model.as_str()),
            options,
            stream: config.stream,
            timeout: seconds(config.timeout_seconds),
            idle_timeout: seconds(config.idle_timeout_seconds),
            max_reply_bytes: config.max_reply_bytes,
        })
    }

    /// Sends one request and reads its reply; notes in `seen` what comes in.
    pub(crate) async fn send(
        self,
        messages: Vec<Message>,
        max_tokens: Option<u32>,
        seed: Option<u64>,
        seen: Arc<Seen>,
    ) -> Result<Reply, Failure> {
        let timeout = self.timeout;
        let exchange = async {
            match self.stream {
                true => self.streamed(messages, max_tokens, seed, seen).await,
                false => self.whole(messages, max_tokens, seed, seen).await,
            }
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!(
                    "no complete reply within {:.1} s (`timeout_seconds`)",
                    timeout.as_secs_f64()
                );
                Err(Failure::new(Kind::Timeout, message))
            }
        }
    }

    fn options(&self, max_tokens: Option<u32>, seed: Option<u64>) -> ChatOptions {
        ChatOptions { max_tokens, seed, ..self.options.clone() }
    }

    async fn streamed(
        &self,
        messages: Vec<Message>,
        max_tokens: Option<u32>,
        seed: Option<u64>,
        seen: Arc<Seen>,
    ) -> Result<Reply, Failure> {
        let mut options = self.options(max_tokens, seed);
        options.raw_frame_sink = Some(Arc::new(Frames(Arc::clone(&seen))));
        let opening =
            self.client.exec_chat_stream(self.target.clone(), request(messages), Some(&options));
        let mut stream = opening.await.map_err(|error| of_library(&error))?.stream;
        let mut text = String::new();
        let mut thoughts = 0;
        loop {
            let Ok(event) = tokio::time::timeout(self.idle_timeout, stream.next()).await else {
                let idle = self.idle_timeout.as_secs_f64();
                let message = format!("nothing came for {idle:.1} s (`idle_timeout_seconds`)");
                return Err(Failure::new(Kind::Timeout, message));
            };
            match event {
                None if seen.lock().events == 0 => {
                    return Err(Failure::new(
                        Kind::Malformed,
                        "the response is not a stream of events",
                    ));
                }
                None => return Err(broken_off()),
                Some(Err(error)) => {
                    let refusal = std::mem::take(&mut seen.lock().refusal);
                    return Err(if refusal.is_empty() {
                        of_library(&error)
                    } else {
                        refused(refusal)
                    });
                }
                Some(Ok(ChatStreamEvent::Chunk(chunk))) => {
                    seen.lock().bytes += chunk.content.len();
                    text.push_str(&chunk.content);
                    if text.len() > self.max_reply_bytes {
                        return Err(self.too_long());
                    }
                }
                Some(Ok(ChatStreamEvent::ReasoningChunk(chunk))) => {
                    seen.lock().bytes += chunk.content.len();
                    thoughts += chunk.content.len();
                    // Thoughts are not kept, but endless ones end somewhere as well.
                    if thoughts / 8 > self.max_reply_bytes {
                        return Err(self.too_long());
                    }
                }
                // These adapters make up an end when a stream breaks off.
                Some(Ok(ChatStreamEvent::End(end)))
                    if end.captured_stop_reason.is_none()
                        && matches!(
                            self.target.adapter_kind,
                            AdapterKind::Gemini | AdapterKind::OpenAIResp | AdapterKind::Ollama
                        ) =>
                {
                    return Err(broken_off());
                }
                Some(Ok(ChatStreamEvent::End(end))) => {
                    if let Some(tokens) = end.captured_usage.as_ref().and_then(counted) {
                        seen.lock().tokens = Some(tokens);
                    }
                    return judged(text, end.captured_stop_reason, &seen);
                }
                Some(Ok(
                    ChatStreamEvent::Start
                    | ChatStreamEvent::Heartbeat
                    | ChatStreamEvent::ToolCallChunk(_)
                    | ChatStreamEvent::ThoughtSignatureChunk(_),
                )) => {}
            }
        }
    }

    async fn whole(
        &self,
        messages: Vec<Message>,
        max_tokens: Option<u32>,
        seed: Option<u64>,
        seen: Arc<Seen>,
    ) -> Result<Reply, Failure> {
        let options = self.options(max_tokens, seed);
        let asked = self.client.exec_chat(self.target.clone(), request(messages), Some(&options));
        let response = asked.await.map_err(|error| of_library(&error))?;
        let text = response.content.texts().concat();
        {
            let mut seen = seen.lock();
            seen.bytes = text.len() + response.reasoning_content.as_ref().map_or(0, String::len);
            seen.tokens = counted(&response.usage);
            if let Some(body) = &response.captured_raw_body {
                seen.refusal.push_str(refusal_in(body).unwrap_or_default());
                if text.is_empty() && !looks_like_a_reply(body) {
                    return Err(Failure::new(
                        Kind::Malformed,
                        "the response holds no reply of the expected form",
                    ));
                }
            }
        }
        if text.len() > self.max_reply_bytes {
            return Err(self.too_long());
        }
        judged(text, response.stop_reason, &seen)
    }

    fn too_long(&self) -> Failure {
        let message =
            format!("the reply is longer than {} bytes (`max_reply_bytes`)", self.max_reply_bytes);
        Failure::new(Kind::TooLong, message)
    }
}

fn request(messages: Vec<Message>) -> ChatRequest {
    let messages = messages.into_iter().map(|message| match message.role {
        Role::System => ChatMessage::system(message.text),
        Role::User => ChatMessage::user(message.text),
        Role::Assistant => ChatMessage::assistant(message.text),
    });
    ChatRequest::new(messages.collect())
}

/// Whether a text that came in completely is a reply.
fn judged(text: String, stop: Option<StopReason>, seen: &Seen) -> Result<Reply, Failure> {
    let refusal = std::mem::take(&mut seen.lock().refusal);
    if !refusal.is_empty() {
        return Err(refused(refusal));
    }
    if let Some(StopReason::ContentFilter(reason)) = &stop {
        return Err(Failure::new(
            Kind::Refused,
            format!("the provider stopped the reply: {reason}"),
        ));
    }
    let cut = stop.as_ref().is_some_and(StopReason::is_max_tokens);
    let text = text::without_thoughts(text);
    if text.trim().is_empty() {
        if cut {
            // Thoughts used the tokens up, and would again.
            let message = "the reply was cut off at the limit on tokens before an answer began\n\
                           hint: raise max_tokens or lower reasoning_effort";
            return Err(Failure { again: Again::Never, ..Failure::new(Kind::Empty, message) });
        }
        let reason = stop.map_or_else(|| "none".to_owned(), |stop| stop.raw().to_owned());
        return Err(Failure::new(Kind::Empty, format!("no text came (stop reason: {reason})")));
    }
    Ok(Reply { text, cut })
}
