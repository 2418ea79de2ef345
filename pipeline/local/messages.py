"""The shapes a request may have: every message with its fields, written down by hand from the published schema.

A kind is a scalar (`string`, `bool`, `int32`, `int64`, `number`, `bytes`, `duration`), `any`, `struct` (a free
object), the name of an enumeration or a message, or one of these in brackets for a list of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MESSAGES: Mapping[str, Mapping[str, str]] = {
    "GenerateContentRequest": {
        "model": "string",
        "contents": "[Content]",
        "systemInstruction": "Content",
        "tools": "[Tool]",
        "toolConfig": "struct",
        "safetySettings": "[SafetySetting]",
        "generationConfig": "GenerationConfig",
        "cachedContent": "string",
        "serviceTier": "string",
        "store": "bool",
    },
    "Content": {"role": "string", "parts": "[Part]"},
    "Part": {
        "text": "string",
        "inlineData": "Blob",
        "fileData": "FileData",
        "functionCall": "struct",
        "functionResponse": "struct",
        "executableCode": "struct",
        "codeExecutionResult": "struct",
        "toolCall": "struct",
        "toolResponse": "struct",
        "thought": "bool",
        "thoughtSignature": "bytes",
        "partMetadata": "struct",
        "videoMetadata": "struct",
        "mediaResolution": "MediaResolution",
        "mediaProcessing": "string",
    },
    "Blob": {"mimeType": "string", "data": "bytes"},
    "FileData": {"mimeType": "string", "fileUri": "string"},
    "MediaResolution": {"level": "MediaResolution.Level"},
    "Tool": {
        "googleSearch": "GoogleSearch",
        "functionDeclarations": "[struct]",
        "codeExecution": "struct",
        "googleSearchRetrieval": "struct",
        "urlContext": "struct",
        "fileSearch": "struct",
        "googleMaps": "struct",
        "computerUse": "struct",
        "mcpServers": "[struct]",
    },
    "GoogleSearch": {"searchTypes": "SearchTypes", "timeRangeFilter": "Interval"},
    "SearchTypes": {"webSearch": "Empty", "imageSearch": "Empty"},
    "Interval": {"startTime": "string", "endTime": "string"},
    "Empty": {},
    "SafetySetting": {"category": "HarmCategory", "threshold": "SafetySetting.HarmBlockThreshold"},
    "GenerationConfig": {
        "responseModalities": "[GenerationConfig.Modality]",
        "imageConfig": "ImageConfig",
        "responseFormat": "ResponseFormatConfig",
        "thinkingConfig": "ThinkingConfig",
        "candidateCount": "int32",
        "seed": "int32",
        "temperature": "number",
        "topP": "number",
        "topK": "int32",
        "maxOutputTokens": "int32",
        "stopSequences": "[string]",
        "presencePenalty": "number",
        "frequencyPenalty": "number",
        "responseLogprobs": "bool",
        "logprobs": "int32",
        "mediaResolution": "GenerationConfig.MediaResolution",
        "responseMimeType": "string",
        "responseSchema": "struct",
        "responseJsonSchema": "any",
        "speechConfig": "struct",
        "translationConfig": "struct",
        "audioTranscriptionConfig": "struct",
        "enableEnhancedCivicAnswers": "bool",
        "enableAffectiveDialog": "bool",
    },
    "ImageConfig": {"aspectRatio": "string", "imageSize": "string"},
    "ResponseFormatConfig": {"image": "ImageResponseFormat", "text": "struct", "audio": "struct"},
    # Documented as "16:9" and "2K", declared as enumerations: both spellings are taken.
    "ImageResponseFormat": {
        "aspectRatio": "string",
        "imageSize": "string",
        "mimeType": "ImageResponseFormat.MimeType",
        "delivery": "ImageResponseFormat.Delivery",
    },
    "ThinkingConfig": {
        "includeThoughts": "bool",
        "thinkingBudget": "int32",
        "thinkingLevel": "ThinkingConfig.ThinkingLevel",
    },
    "BatchGenerateContentRequest": {"batch": "GenerateContentBatch"},
    "GenerateContentBatch": {
        "displayName": "string",
        "model": "string",
        "inputConfig": "InputConfig",
        "priority": "int64",
        "webhookConfig": "WebhookConfig",
        # Said by the service, not by the caller; taken and not looked at.
        "name": "string",
        "state": "string",
        "createTime": "string",
        "updateTime": "string",
        "endTime": "string",
        "batchStats": "struct",
        "output": "struct",
    },
    "InputConfig": {"fileName": "string", "requests": "InlinedRequests"},
    "InlinedRequests": {"requests": "[InlinedRequest]"},
    # `struct` here, because it is kept as it came; `batches` holds it against its message.
    "InlinedRequest": {"request": "struct", "metadata": "struct"},
    "WebhookConfig": {"uris": "[string]", "userMetadata": "struct"},
    "CreateFileRequest": {"file": "File"},
    "File": {
        "name": "string",
        "displayName": "string",
        "mimeType": "string",
        "sizeBytes": "int64",
        # Said by the service, not by the caller; taken and not looked at.
        "createTime": "any",
        "updateTime": "any",
        "expirationTime": "any",
        "sha256Hash": "any",
        "uri": "any",
        "downloadUri": "any",
        "state": "any",
        "source": "any",
        "error": "any",
        "videoMetadata": "any",
    },
    "RegisterFilesRequest": {"uris": "[string]"},
    # Kept as they came; `asks` holds them against the message they stand for.
    "CountTokensRequest": {"contents": "any", "generateContentRequest": "struct"},
}

_CATEGORIES = "HARASSMENT HATE_SPEECH SEXUALLY_EXPLICIT DANGEROUS_CONTENT CIVIC_INTEGRITY JAILBREAK"

ENUMS: Mapping[str, tuple[str, ...]] = {
    "HarmCategory": tuple(f"HARM_CATEGORY_{name}" for name in _CATEGORIES.split()),
    "SafetySetting.HarmBlockThreshold": (
        "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
        "BLOCK_LOW_AND_ABOVE",
        "BLOCK_MEDIUM_AND_ABOVE",
        "BLOCK_ONLY_HIGH",
        "BLOCK_NONE",
        "OFF",
    ),
    "GenerationConfig.Modality": ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO", "VIDEO"),
    "GenerationConfig.MediaResolution": (
        "MEDIA_RESOLUTION_UNSPECIFIED",
        "MEDIA_RESOLUTION_LOW",
        "MEDIA_RESOLUTION_MEDIUM",
        "MEDIA_RESOLUTION_HIGH",
    ),
    "MediaResolution.Level": (
        "MEDIA_RESOLUTION_UNSPECIFIED",
        "MEDIA_RESOLUTION_LOW",
        "MEDIA_RESOLUTION_MEDIUM",
        "MEDIA_RESOLUTION_HIGH",
        "MEDIA_RESOLUTION_ULTRA_HIGH",
    ),
    "ImageResponseFormat.MimeType": ("MIME_TYPE_UNSPECIFIED", "IMAGE_JPEG"),
    "ImageResponseFormat.Delivery": ("DELIVERY_UNSPECIFIED", "INLINE", "URI"),
    "ThinkingConfig.ThinkingLevel": ("THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH"),
}

# Of these, a part says at most one.
PART_KINDS = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)
