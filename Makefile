# `make book` and `make test` are all a newcomer needs; `make` alone lists the rest.
# Every path is relative, so the checkout may lie anywhere, blanks in its name included.
PYTHON_BIN := .venv/bin/python
HTML := _build/html/index.html
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help env book test soak lint execute pages pdf epub course downloads links serve lab clean

help:
	@echo "make book     build the book as HTML and print where its first page is"
	@echo "make test     run the tests, and every notebook against its stored outputs"
	@echo "make soak     run what is too long for every day"
	@echo "make pdf      the book as one PDF, printed by Chromium"
	@echo "make epub     the book as one EPUB, its mathematics as MathML; needs Chromium too"
	@echo "make serve    show the built book at http://127.0.0.1:$(PORT)"
	@echo "make lab      open the notebooks in JupyterLab"
	@echo "make execute  run all notebooks and store their outputs (NOTEBOOKS=... for some)"
	@echo "make pages    write the appendices that are generated anew"
	@echo "make course   build the problem sets: students' zips and the instructor's pack"
	@echo "make links    ask every external link of the book; needs the network"
	@echo "make lint     ruff and mypy alone"
	@echo "make env      create or refresh .venv"
	@echo "make clean    remove what was built; .venv, data, runs and course stay"

env:
	@sh tools/make_env.sh

# What chapter 20 and the page "Get the book" offer as downloads; made anew when it has changed.
SETS := book/_static/course/setup.zip
ZIP := _build/download/nesterov-notebooks.zip
DOWNLOADS := $(SETS) $(ZIP)
WHEEL := $(wildcard ngs/*.py ngs/*/*.py ngs/*/*/*.py) pyproject.toml \
  $(filter-out results/executions.jsonl,$(wildcard results/*.jsonl))
$(SETS): $(wildcard assignments/source/*/* assignments/hidden/*) $(WHEEL) \
  tools/make_course.py requirements.txt | env
	@echo "book: building the problem sets"
	@$(PYTHON_BIN) tools/make_course.py --downloads book/_static/course

$(ZIP): $(wildcard book/*.ipynb) $(WHEEL) tools/make_downloads.py tools/make_course.py \
  requirements.txt | env
	@echo "book: zipping the notebooks"
	@$(PYTHON_BIN) tools/make_downloads.py

downloads: $(DOWNLOADS)

book: env $(DOWNLOADS)
	@echo "book: building the HTML from the notebooks' stored outputs"
	@.venv/bin/jupyter-book build . -W -n --keep-going --quiet
	@echo "book: ready. Its first page: $$(pwd)/$(HTML)"

pdf: env
	@$(PYTHON_BIN) tools/make_pdf.py

epub: env
	@$(PYTHON_BIN) tools/make_epub.py

# One thread for each of the two workers: threads that wait for a core slow small tensors down a
# hundredfold.
test: env
	@echo "test: the library, the book as a book, and every notebook"
	@OMP_NUM_THREADS=1 $(PYTHON_BIN) -m pytest -n 2 --dist loadfile --nbval --nbval-current-env \
	  --nbval-cell-timeout 300 -m "not soak" tests book

soak: env
	@echo "soak: the long tests"
	@$(PYTHON_BIN) -m pytest -m soak tests

lint: env
	@$(PYTHON_BIN) -m ruff format --check .
	@$(PYTHON_BIN) -m ruff check .
	@$(PYTHON_BIN) -m mypy

NOTEBOOKS ?= book/*.ipynb
execute: env
	@echo "execute: running $(NOTEBOOKS) from top to bottom, in place"
	@failed=0; $(PYTHON_BIN) tools/execute.py $(NOTEBOOKS) || failed=1; \
	  $(PYTHON_BIN) tools/export_picture.py && $(MAKE) --no-print-directory pages && exit $$failed

pages: env
	@$(PYTHON_BIN) tools/make_ledger.py
	@$(PYTHON_BIN) tools/make_statistics.py
	@$(PYTHON_BIN) tools/make_results.py
	@$(PYTHON_BIN) tools/make_mistakes.py

course: env
	@$(PYTHON_BIN) tools/make_course.py

# Asks other hosts, so it is no part of `make test`.
links: env $(DOWNLOADS)
	@echo "links: asking every external link of the book"
	@$(PYTHON_BIN) tools/check_links.py

serve: book
	@echo "serve: http://127.0.0.1:$(PORT) (Ctrl-C ends it)"
	@$(PYTHON_BIN) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

lab: env
	@$(PYTHON_BIN) -m jupyterlab --notebook-dir=book

clean:
	@rm -rf _build build dist book/_static/course .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@echo "clean: removed what was built"
