#!/usr/bin/env bash
# /// recipe
# summary = { en = "Make training rows of PDF, Word, HTML, Markdown and text files", zh = "把 PDF、Word、HTML、Markdown 与文本文件变成训练数据" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "python"
#
# [inputs.data]
# format = "documents"
# help = { en = "PDF, DOCX, HTML, Markdown and text files, or folders of them, searched to the bottom; for questions also answers.jsonl of an earlier run, whose replies are not asked for again", zh = "PDF、DOCX、HTML、Markdown 与文本文件，或含有它们的文件夹（包括子文件夹）；questions 还可给出先前运行的 answers.jsonl，其中的回答不再重新请求" }
# [outputs]
# help = { en = "train.jsonl and dev.jsonl, divided by document; chunks.jsonl (each chunk with its file and headings), text/ (every file as Markdown), report.json (what became of each file), profile.json (lengths and scripts of the rows)", zh = "按文档划分的 train.jsonl 与 dev.jsonl；chunks.jsonl（各片段及其文件与标题）、text/（各文件的 Markdown）、report.json（各文件的结果）、profile.json（数据的长度与文字种类）" }
#
# [parameters.rows]
# type = "choice"
# choices = ["text", "headings", "questions"]
# default = "text"
# help = { en = "text: each chunk as it is, for continued training (format plain). headings: the headings above a chunk as query, the chunk as right answer, other documents' chunks as wrong ones, for embedders and rerankers; needs no model. questions: asked and answered by --endpoint, for chats or embedders", zh = "text：片段原文，用于继续预训练（plain 格式）。headings：以片段上方的标题为查询、片段为正例、其他文档的片段为负例，用于向量与重排模型，不需要模型。questions：由 --endpoint 提问并回答，用于对话或向量模型" }
# [parameters.extractor]
# type = "choice"
# choices = ["pdfplumber", "pypdfium2", "docling", "marker"]
# default = "pdfplumber"
# help = { en = "how PDF files are read. pdfplumber: columns in reading order, headings, tables, scans by OCR. pypdfium2: the text alone in the file's own order, many times as fast, for simple layouts. docling and marker are refused, with the reason", zh = "PDF 的读取方式。pdfplumber：按阅读顺序处理分栏，保留标题与表格，扫描页用 OCR。pypdfium2：只按文件内的顺序取文本，快许多倍，适合简单版式。docling 与 marker 会被拒绝并说明原因" }
# [parameters.ocr]
# type = "choice"
# choices = ["auto", "never", "always"]
# default = "auto"
# help = { en = "letters in pictures of PDF pages, Chinese and English: auto reads pages without text, some seconds each on one core; never skips them; always ignores the text layer, for files where it is wrong", zh = "识别 PDF 页面图片中的中英文：auto 只处理没有文本的页面，每页单核需数秒；never 跳过；always 忽略文本层，用于文本层有误的文件" }
# [parameters.chunk_size]
# type = "int"
# default = 1500
# help = { en = "longest chunk, in characters, or in tokens of --tokenizer. It should be below the max length of the training: 1500 characters are about 350 tokens of English, 1000 of Chinese", zh = "片段的最大长度，按字符；给出 --tokenizer 时按词元。应小于训练的最大长度：1500 个字符约为 350 个英文词元或 1000 个中文词元" }
# [parameters.overlap]
# type = "int"
# default = 0
# help = { en = "what a chunk repeats of the one before it, in the same unit; for retrieval about a tenth of the chunk, for continued training nothing", zh = "片段重复前一片段末尾的长度，单位相同；检索用约为片段的十分之一，继续预训练用 0" }
# [parameters.tokenizer]
# type = "model"
# default = ""
# help = { en = "the model whose tokenizer counts, the one to be trained: a folder, or an id on the hub. Empty: characters", zh = "用其分词器计数的模型，即将要训练的模型：本地文件夹或模型库名称。空表示按字符" }
# [parameters.dev]
# type = "float"
# default = 0.05
# help = { en = "share of the chunks for dev.jsonl, about: documents are divided whole, so that no text of dev is trained on. 0: none", zh = "dev.jsonl 所占的片段比例（约）：按整篇文档划分，dev 的文本不会被训练。0 表示不划分" }
# [parameters.seed]
# type = "int"
# default = 42
# help = { en = "decides which documents are dev, and which wrong answers a query gets", zh = "决定哪些文档归入 dev，以及每个查询的负例" }
# [parameters.negatives]
# type = "int"
# default = 7
# help = { en = "wrong answers of each query, drawn from other documents of the same side; mine-hard-negatives finds better ones afterwards", zh = "每个查询的负例数，从同一侧的其他文档中抽取；之后可用 mine-hard-negatives 找到更难的负例" }
# [parameters.endpoint]
# type = "str"
# default = ""
# help = { en = "address of an OpenAI-compatible server up to /v1, for --rows questions. The texts of the documents are sent there. Needs --network bridge in a container; a key only by --env OPENAI_API_KEY", zh = "OpenAI 兼容服务的地址（到 /v1 为止），用于 --rows questions。文档内容会发送到该服务。容器中需要 --network bridge；密钥只能用 --env OPENAI_API_KEY 传入" }
# [parameters.endpoint_model]
# type = "str"
# default = ""
# help = { en = "name of the model there", zh = "该服务上的模型名称" }
# [parameters.prompt_language]
# type = "choice"
# choices = ["en", "zh"]
# default = "en"
# help = { en = "language of the prompt, and so of the questions", zh = "提示词的语言，也决定问题的语言" }
# [parameters.questions_per_chunk]
# type = "int"
# default = 3
# help = { en = "questions that are asked about each chunk: one request, whatever their number", zh = "每个片段的问题数；无论多少都是一次请求" }
# [parameters.question_rows]
# type = "choice"
# choices = ["chat", "pairs"]
# default = "chat"
# help = { en = "chat: question and answer as messages, for llm-sft. pairs: the question as query, the chunk as right answer, for embedders and rerankers", zh = "chat：问题与回答写成对话，用于 llm-sft。pairs：问题为查询、片段为正例，用于向量与重排模型" }
# [parameters.requests]
# type = "int"
# default = 4
# help = { en = "requests at a time; fewer where the server says that there are too many", zh = "同时进行的请求数；服务提示请求过多时应减少" }
# [parameters.processes]
# type = "int"
# default = 0
# help = { en = "files that are read at a time; 0: one per core. Each needs about 0.1 GB, with OCR 1 GB", zh = "同时读取的文件数；0 表示每个核心一个。每个约需 0.1 GB 内存，使用 OCR 时约 1 GB" }
# [parameters.seconds_per_file]
# type = "float"
# default = 600.0
# help = { en = "a file that takes longer is given up and named; the others go on. Long scans need more", zh = "超过该秒数的文件会被放弃并列出，其余继续。页数多的扫描件需要更大的值" }
# [parameters.memory_gib]
# type = "float"
# default = 4.0
# help = { en = "GiB that the process of a file may map; a file that needs more is named. 0: no limit", zh = "读取一个文件的进程可用的内存上限（GiB）；超出的文件会被列出。0 表示不限制" }
# [parameters.push_to_hub]
# type = "str"
# default = ""
# help = { en = "OWNER/NAME of a new data set on the hub, which gets the rows; nothing is overwritten. Needs --env HF_TOKEN --network bridge. Empty: no push", zh = "模型库上新数据集的名称 OWNER/NAME，会上传生成的数据，不覆盖已有的数据集。需要 --env HF_TOKEN --network bridge。空表示不上传" }
# [parameters.private]
# type = "bool"
# default = true
# help = { en = "only you see the pushed data set", zh = "上传的数据集仅自己可见" }
#
# [[refusals]]
# when = { extractor = "marker" }
# why = { en = "marker-pdf 2.0.0 needs transformers 5.12.1 or newer and pillow below 11, every target has an older transformers and pillow 13; its weights have a licence of their own (docs/documents.md). Use pdfplumber", zh = "marker-pdf 2.0.0 要求 transformers 不低于 5.12.1、pillow 低于 11，而各目标的 transformers 更旧、pillow 为 13；其权重另有许可证（见 docs/documents.md）。请用 pdfplumber" }
# [[refusals]]
# when = { extractor = "docling" }
# why = { en = "docling is in no image: it reads layouts with models that must be downloaded first, and needs an older typer than Unsloth's (docs/documents.md). Use pdfplumber", zh = "镜像中没有 docling：它的版面模型需要先下载，且要求的 typer 比 Unsloth 所用的更旧（见 docs/documents.md）。请用 pdfplumber" }
# [[refusals]]
# when = { rows = "questions", endpoint = "" }
# why = { en = "--rows questions needs --endpoint, the address of a server up to /v1, and --endpoint-model", zh = "--rows questions 需要 --endpoint（到 /v1 为止的服务地址）与 --endpoint-model" }
# [[refusals]]
# when = { rows = "questions", endpoint_model = "" }
# why = { en = "--rows questions needs --endpoint-model, the name of a model of the server", zh = "--rows questions 需要 --endpoint-model，即服务上的模型名称" }
# ///
#
# Runs by itself too: DATA=papers OUTPUT=rows bash documents-to-dataset.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults
: "${DATA:?set DATA to files and folders}"

export PYTHONPATH="$here/tools:$PYTHONPATH" LAUNCH_SCRATCH="$scratch"
export OMP_NUM_THREADS=1 # files are read side by side, each by one core
exec "$python" -m documents \
    --data "${data[@]}" \
    --output "$OUTPUT" \
    --model "$TOKENIZER" \
    --rows "$ROWS" \
    --extractor "$EXTRACTOR" \
    --ocr "$OCR" \
    --chunk-size "$CHUNK_SIZE" \
    --overlap "$OVERLAP" \
    --dev "$DEV" \
    --seed "$SEED" \
    --negatives "$NEGATIVES" \
    --endpoint="$ENDPOINT" \
    --endpoint-model="$ENDPOINT_MODEL" \
    --language "$PROMPT_LANGUAGE" \
    --questions "$QUESTIONS_PER_CHUNK" \
    --question-rows "$QUESTION_ROWS" \
    --requests "$REQUESTS" \
    --processes "$PROCESSES" \
    --seconds "$SECONDS_PER_FILE" \
    --memory "$MEMORY_GIB" \
    --push="$PUSH_TO_HUB" \
    --private "$PRIVATE" \
    "$@"
