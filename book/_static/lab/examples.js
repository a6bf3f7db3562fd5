/* The examples of the Momentum Lab, as JSON: the pictures that stand in for it are drawn from them too
 * (tools/make_lab_pictures.py). Step sizes are in units of 1/L.
 */
var NGS_LAB_EXAMPLES = {
  "natural": {
    "f": "quadratic",
    "kappa": 100,
    "eta": 1,
    "beta": 0.82,
    "schedule": "constant",
    "noise": 0,
    "restart": "none",
    "steps": 150,
    "seed": 1,
    "x": -1.8,
    "y": 0.9,
    "show": "nesterov",
    "on": [
      "gradient_descent",
      "heavy_ball",
      "nesterov",
      "ngs"
    ]
  },
  "examples": {
    "valley": {
      "title": "Four methods in a valley",
      "story": "Drag the start, or the point in the map of rates. NGS looks for its own step size and overshoots on the way: where L is known, as here, you do not need it.",
      "set": {
        "kappa": 25,
        "beta": 0.6666666666666666,
        "steps": 80
      }
    },
    "limit": {
      "title": "Gradient descent at its speed limit",
      "story": "At 2/L the steep direction neither shrinks nor grows. Move the step size by a hair to either side.",
      "set": {
        "eta": 1.99,
        "beta": 0,
        "on": [
          "gradient_descent"
        ],
        "show": "gradient_descent"
      }
    },
    "best": {
      "title": "Heavy ball at its best",
      "story": "The best pair on quadratics: both directions shrink at the same rate. At first the gap grows: a rate is a promise for the long run.",
      "set": {
        "eta": 3.3057851239669422,
        "beta": 0.6694214876033059,
        "on": [
          "heavy_ball"
        ],
        "show": "heavy_ball",
        "steps": 100
      }
    },
    "circle": {
      "title": "Heavy ball runs in a circle",
      "story": "The pair that is best on quadratics with κ = 25, on a convex function that is no quadratic. Drag the start to 3.5: it arrives. From 3.3 it never does.",
      "set": {
        "f": "lessard",
        "eta": 2.7777777777777777,
        "beta": 0.4444444444444444,
        "x": 3.3,
        "y": 0,
        "on": [
          "heavy_ball"
        ],
        "show": "heavy_ball",
        "steps": 60
      }
    },
    "bound": {
      "title": "Nesterov and the proved bound",
      "story": "Step 1/L and Nesterov's sequence: the dotted line is proved for every convex function. Take another step and the proof is gone; the line turns pale.",
      "set": {
        "kappa": 1000,
        "schedule": "nesterov",
        "eta": 1,
        "steps": 300,
        "on": [
          "gradient_descent",
          "nesterov"
        ]
      }
    },
    "restart": {
      "title": "Too much momentum, and restart",
      "story": "Momentum that is too high overshoots in waves. Let restart throw the velocity away when it moves uphill: Nesterov's method gains much, heavy ball loses.",
      "set": {
        "kappa": 300,
        "beta": 0.98,
        "eta": 1,
        "steps": 400,
        "on": [
          "heavy_ball",
          "nesterov"
        ],
        "y": 0.5
      }
    },
    "factor": {
      "title": "A learning rate 300 times too small",
      "story": "NGS reads the angle between gradient and last step, and lengthens its steps until the angle says stop. The others crawl.",
      "set": {
        "eta": 0.0033,
        "beta": 0.8,
        "kappa": 30,
        "steps": 200,
        "on": [
          "gradient_descent",
          "nesterov",
          "ngs"
        ]
      }
    },
    "noise": {
      "title": "Noise in every gradient",
      "story": "With noise nobody arrives: each method ends at a floor. More momentum, or a larger step, means a higher floor.",
      "set": {
        "kappa": 20,
        "noise": 0.5,
        "eta": 0.5,
        "beta": 0.8,
        "steps": 300
      }
    },
    "bend": {
      "title": "A valley that bends",
      "story": "Not convex, and nothing is proved. Momentum helps along the floor. The factor does not help here: it grows where the floor is flat, and then meets the wall.",
      "set": {
        "f": "rosenbrock",
        "eta": 0.5,
        "beta": 0.9,
        "x": -1.2,
        "y": 1,
        "steps": 400
      }
    }
  }
};
