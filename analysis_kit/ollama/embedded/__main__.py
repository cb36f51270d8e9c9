"""``python -m analysis_kit.ollama.embedded``: the child process that `EmbeddedOllama` starts."""

import sys

from analysis_kit.ollama.embedded.child import main

sys.exit(main())
