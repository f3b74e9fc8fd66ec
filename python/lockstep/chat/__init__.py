"""Conversations as a model sees them: its own chat template, rendered as transformers does."""

from .messages import Conversation, Unfit, conversation
from .renderer import Limits, Refused, Renderer, Rendering
from .source import TemplateSource, read_template

__all__ = [
    "Conversation",
    "Limits",
    "Refused",
    "Renderer",
    "Rendering",
    "TemplateSource",
    "Unfit",
    "conversation",
    "read_template",
]
