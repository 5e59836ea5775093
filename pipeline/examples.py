"""What `osr COMMAND --help` shows besides the options."""

EXAMPLES = {
    "run": """
osr run                                        all six stages; only what changed runs again
osr run train                                  no further than stage train
osr run --preset digits_quick                  an experiment: `dvc exp run` with these settings; also -S
""",
    "init": """
osr init ~/photos my_project                   one folder per class in ~/photos; then cd my_project && osr run
osr init ~/photos my_project --unknown ~/others
osr init labels.csv my_project                 columns path and label, and part and group if there are any
""",
    "fit": """
osr fit resnet18 ~/photos --weights resnet18_6_classes.pth
osr fit torchvision.models:resnet18 ~/photos --weights net.pth -S model.backbone.options.num_classes=6
osr fit my_net:Net ~/photos --weights net.pth -S 'model.image.mean=[0.5]' -S 'model.image.std=[0.5]' \\
  -S 'split.known=[cat,dog,owl]'

The network's outputs are the known classes in their order: that of their names, or of split.known.
""",
    "check": """
osr check my_parts:Manhattan                   a detector in my_parts.py; docs/own_parts.md has it
osr check my_losses:Focal && osr run -S train.loss=my_losses:Focal
""",
    "predict": """
osr predict photo.png folder/ --output verdicts.csv
osr predict 'photos/**/*.jpg' --format parquet --output verdicts.parquet --gallery page.html
find / -name '*.png' | osr predict - --model classifier --accept 0.99 --format jsonl
osr predict monday/ --fdr 0.05 --output verdicts.csv
osr predict photos/ --shard "$SLURM_ARRAY_TASK_ID/8" --out verdicts --format parquet

Rows come as the images are judged, in their order, in little memory however many there are. An image that
cannot be read is a row with the reason, and makes the status 1; the others are judged all the same.
--fdr decides on all images together (Benjamini and Hochberg), so rows come when the last one was judged, and
stand in a temporary file until then. The column q_value is the smallest bound at which an image is rejected.
--shard 3/8 judges the third of eight parts, whole batches, into a file of the folder --out (docs/scale.md).
""",
    "compare": """
osr compare                                        all finished runs in MLflow
osr compare --files                                the present run, from its files
osr compare --metrics auroc fpr_at_95tpr_known --format latex --out table.tex
osr compare --detector knn --detector msp              the rows of these alone, before any test
osr compare --diagram ranks.pdf                    also draw the methods' mean ranks over runs
osr compare --missing | sh && dvc queue start      run the trials that are missing

Runs that differ in split.trial, split.seed and train.seed alone are repeats: their mean comes with half its
t-interval. A single run comes with an interval whose width a bootstrap over its images gives. Marked are the
best method and those that do not differ from it significantly (paired t-test over the repeats that both have;
for one run of --files a paired bootstrap over its images; Holm's correction). Where nothing differs, nothing
is marked.
The diagram shows the first metric: bars join methods whose mean ranks differ by less than the critical
difference (Friedman, Nemenyi; Demšar 2006). It takes runs as independent, while trials of one data set share
images.
""",
    "sweep": """
osr sweep NAME                                 print the `dvc exp run --queue` lines
osr sweep NAME --queue && dvc queue start --jobs 2
osr sweep NAME --missing --queue               only what MLflow holds no finished run of
osr sweep NAME --queue -S train.epochs=2       with other settings
osr sweep NAME --queue -S split.trial=1        one value instead of those in the grid
osr sweep NAME --submit slurm --jobs 8          a job array, each job in a clone of its own (docs/scale.md)
osr sweep NAME --submit slurm --missing        what killed jobs have left
osr sweep NAME --submit local --jobs 2         here, two at a time; condor writes a file for condor_submit
""",
    "search": """
osr search SPACE.yaml >presets/NAME.yaml       docs/search.md has what the file says; searches/ an example
osr search SPACE.yaml --storage postgresql+psycopg2://osr@127.0.0.1:5432/optuna

Called again it goes on. No unknown image is opened: known classes are held out in turn, and judge.
""",
    "preset": """
dvc exp run $(osr preset NAME) -S split.trial=1     an experiment, or with --queue a sweep
osr preset NAME --apply                             write it into params.yaml
osr preset --list
""",
    "register": """
osr register digits --alias champion
""",
    "export": """
osr export classifier                               the present run, into the new folder classifier
osr export ../other-clone classifier                the run of another clone of this project
osr export classifier --onnx --detector energy      also classifier.onnx, in which energy judges

The folder holds weights, calibration, every enabled detector, thresholds, the validation scores behind them
and a model card. In Python `osr.load("classifier").predict("photo.png")` judges with it.

--onnx adds one graph from pixels to verdicts; `osr-runtime`, a small package without PyTorch, judges with it.
""",
    "recalibrate": """
osr recalibrate classifier new_photos --out classifier_2
osr recalibrate classifier new_photos --out classifier_2 --rule conformal --accept 0.99

Made anew: the thresholds of every detector and the scores behind p-values, --accept and --p-value. Where the
images stand in folders named as the known classes, the calibration of the probabilities, too; without labels
it stays as it is. Network and detectors stay as they are. All images must be of known classes: nothing can
tell whether they are. The model card of the new folder says from what it was made.
""",
    "serve": """
osr serve classifier
curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' 'http://127.0.0.1:8000/predict?accept=0.99'
curl -F a=@one.png -F b=@two.png http://127.0.0.1:8000/predict
curl --json '{"images": ["..."]}' http://127.0.0.1:8000/predict          base64 of files

http://127.0.0.1:8000/ is a page to drop an image on, /docs says what may be asked. /health says that the
service answers, /metrics is for Prometheus, /openapi.json for programs that write clients. Requests that wait
together are judged together.
""",
    "monitor": """
osr predict monday/ --model classifier --output monday.csv
osr monitor monday.csv --model classifier --state monitor.json --plot evidence.png

Says when the images that are judged can no longer be images of the known classes as they were when the
threshold was made, and ends with status 3 then. One may look after every image, for ever: while they are, the
probability that there is ever an alarm is --false-alarm at most.
""",
    "discover": """
osr discover classifier monday/ tuesday/ --out found
osr discover classifier --verdicts verdicts.csv --out found

Rejected images whose features lie together are a candidate for a new class. DIR/index.html shows them, and
how stable each is; DIR/classes holds a folder of copies for each. Give the folders that you keep the names of
their classes, remove the others, and put them beside the class folders you had: `osr init` takes them all.
Where there is no candidate, the status is 0, too, and the page shows what was rejected.
""",
    "reproduce": """
osr reproduce digits                                the default run, compared with what docs/results.md says
osr reproduce fashion_tuned --split                 whether images and division are those of the published run
osr reproduce gtsrb_tuned -S dataset.root=/data -S model.backbone.weights=/data/lite0.safetensors
osr reproduce training_digits                       a table of another page: its command runs, and prints it

Runs in .osr/reproduce/NAME, a clone of the present commit; called again, it goes on with the runs that are
missing. A number is met when it differs by the tolerance of docs/ledger.yaml at most; the status is 1 when
one is not.
""",
    "leaderboard": """
osr leaderboard                                     the present run, into artifacts/leaderboard and figures
osr leaderboard RUN/metrics/evaluate.json --out docs/leaderboard/mnist
osr leaderboard merge ~/mine ~/yours/mlflow.db http://127.0.0.1:5000 --out board

merge takes the finished runs of folders and of stores of MLflow, which it does not change. Runs that name the
same trial must have the same digests of split and test images; others are refused by name.
""",
}
