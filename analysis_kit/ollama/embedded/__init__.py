"""The embedded server: Ollama's API over llama.cpp, in a child process of its own.

`process` is the parent's side (`EmbeddedOllama`, `embedded_url`); everything else runs in the child.
"""

from analysis_kit.ollama.embedded.catalog import MODEL_NAME as MODEL_NAME
from analysis_kit.ollama.embedded.catalog import is_demo_model as is_demo_model
from analysis_kit.ollama.embedded.process import EmbeddedOllama as EmbeddedOllama
from analysis_kit.ollama.embedded.process import crash_note as crash_note
from analysis_kit.ollama.embedded.process import embedded_url as embedded_url
from analysis_kit.ollama.embedded.serve import serve as serve
