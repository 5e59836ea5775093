# osr on CPUs, as a command: docker build -t osr . && docker run --rm -v "$PWD:/work" osr osr init photos project
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/osr
COPY requirements.txt pyproject.toml README.md LICENSE params.yaml dvc.yaml ./
COPY presets presets
COPY osr osr
COPY pipeline pipeline
RUN pip install --no-cache-dir -r requirements.txt .
RUN git config --global user.name osr && git config --global user.email osr@localhost && git config --global --add safe.directory '*'
WORKDIR /work
CMD ["osr", "--help"]
