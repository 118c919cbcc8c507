"""Keras' side: system D's two phases as its author wrote them, but reading every photo once and keeping it in memory.

python with_keras.py PHOTOS ANSWER FROZEN TUNED     the epochs of the two phases
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # TensorFlow greets

import keras
import tensorflow as tf

SIDE, BATCH, CLASSES, SEED = 224, 16, 5, 0

OPEN = 20
"""Layers at the end of the base that the second phase trains."""


class Epochs(keras.callbacks.Callback):
    """Seconds of each epoch, validation included."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.began)


def photos_of(folder, **split):
    """Photos and labels in batches, decoded once."""
    made = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIDE, SIDE), batch_size=BATCH, verbose=False, **split
    )
    return made


def network():
    """The base, and the whole."""
    varied = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomRotation(0.15),
            keras.layers.RandomZoom(0.1),
            keras.layers.RandomTranslation(0.1, 0.1),
        ]
    )
    base = keras.applications.EfficientNetV2B0(
        include_top=False, weights=None, input_shape=(SIDE, SIDE, 3), include_preprocessing=False
    )
    inputs = keras.Input((SIDE, SIDE, 3))
    maps = base(keras.layers.Rescaling(1 / 127.5, -1)(varied(inputs)), training=False)
    hidden = keras.layers.Dense(128, activation="relu")(keras.layers.GlobalAveragePooling2D()(maps))
    outputs = keras.layers.Dense(CLASSES, activation="softmax")(keras.layers.Dropout(0.3)(hidden))
    return base, keras.Model(inputs, outputs)


def fitted(model, rate, epochs, train, val):
    """Seconds of each epoch, and how many numbers were trained."""
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"], **EXTRA)
    clock = Epochs()
    model.fit(train, validation_data=val, epochs=epochs, callbacks=[clock], verbose=0)
    return {"seconds": clock.seconds, "trained": sum(int(tf.size(each)) for each in model.trainable_weights)}

EXTRA = {"jit_compile": {"t": True, "f": False, "a": "auto"}[os.environ.get("JIT", "a")]}

def main(photos, answer, frozen, tuned):
    """Both phases."""
    keras.utils.set_random_seed(SEED)
    split = {"validation_split": 0.2, "seed": SEED}
    train = photos_of(f"{photos}/train", subset="training", **split)
    val = photos_of(f"{photos}/train", subset="validation", **split)
    test = photos_of(f"{photos}/test", shuffle=False)
    if os.environ.get("CACHE"):
        train = train.cache()
        val = val.cache()
    train, val = train.prefetch(tf.data.AUTOTUNE), val.prefetch(tf.data.AUTOTUNE)
    base, model = network()
    base.trainable = False
    first = fitted(model, 1e-3, frozen, train, val)
    base.trainable = True
    for layer in base.layers[:-OPEN]:
        layer.trainable = False
    print([l.name for l in base.layers[-OPEN:]])
    second = fitted(model, 1e-5, tuned, train, val)
    loss, accuracy = model.evaluate(test, verbose=0)
    told = {"numbers": model.count_params(), "phases": [first, second], "loss": loss, "accuracy": accuracy}
    Path(answer).write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
