/* The Momentum Lab's arithmetic: what ngs computes, once more in the browser.
 *
 * It mirrors ngs.methods, ngs.problems, ngs.schedules, ngs.factor, ngs.minimize and ngs.theory,
 * operation by operation; tests/test_lab.py holds it to their golden trajectories at 1e-12. Vectors
 * are arrays of numbers. It rests on nothing, and knows no page.
 */
"use strict";

var NgsLab = (function () {
  // --- vectors ----------------------------------------------------------------------------------

  const add = (a, b) => a.map((x, i) => x + b[i]);
  const subtract = (a, b) => a.map((x, i) => x - b[i]);
  const scale = (s, a) => a.map((x) => s * x);
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

  // --- ngs.methods ------------------------------------------------------------------------------

  const start = (theta) => ({ theta: theta, velocity: scale(0, theta) });
  const here = (state) => state.theta;

  /** y_t = theta_t + beta_t v_t */
  const lookahead = (state, momentum) => add(state.theta, scale(momentum, state.velocity));

  /** theta_{t+1} = theta_t - eta_t g_t */
  function gradientDescentStep(state, grad, lr) {
    const velocity = scale(-lr, grad);
    return { theta: add(state.theta, velocity), velocity: velocity };
  }

  /** v_{t+1} = beta_t v_t - eta_t g_t,  theta_{t+1} = theta_t + v_{t+1} */
  function momentumStep(state, grad, lr, momentum) {
    const velocity = subtract(scale(momentum, state.velocity), scale(lr, grad));
    return { theta: add(state.theta, velocity), velocity: velocity };
  }

  const METHODS = {
    gradient_descent: { gradientPoint: here, step: gradientDescentStep, moves: false },
    heavy_ball: { gradientPoint: here, step: momentumStep, moves: true },
    nesterov: { gradientPoint: lookahead, step: momentumStep, moves: true },
    ngs: { gradientPoint: lookahead, step: momentumStep, moves: true, learns: true },
  };

  // --- ngs.problems -----------------------------------------------------------------------------

  /** f = (theta_1^2 + kappa theta_2^2) / 2: mu = 1 and L = kappa, as quadratic([1, kappa]). */
  function quadratic(kappa) {
    const spectrum = [1, kappa];
    return {
      dimension: 2,
      value: (p) => 0.5 * (p[0] * (spectrum[0] * p[0]) + p[1] * (spectrum[1] * p[1])),
      grad: (p) => [spectrum[0] * p[0], spectrum[1] * p[1]],
      L: kappa,
      mu: 1,
      minimizer: [0, 0],
      spectrum: spectrum,
      axes: [[1, 0], [0, 1]],
    };
  }

  /** f = 100 (theta_2 - theta_1^2)^2 + (1 - theta_1)^2; spectrum and axes are those at (1, 1). */
  function rosenbrock() {
    // The Hessian at the minimiser is [[802, -400], [-400, 200]].
    const half = Math.sqrt((602 / 2) * (602 / 2) + 400 * 400);
    const spectrum = [(501 * 501 - half * half) / (501 + half), 501 + half];
    const length = Math.hypot(400, 802 - spectrum[1]);
    const steep = [400 / length, (802 - spectrum[1]) / length];
    return {
      dimension: 2,
      value: function (p) {
        const climb = p[1] - p[0] * p[0];
        return 100 * (climb * climb) + (1 - p[0]) * (1 - p[0]);
      },
      grad: function (p) {
        const climb = p[1] - p[0] * p[0];
        return [-400 * p[0] * climb - 2 * (1 - p[0]), 200 * climb];
      },
      L: null,
      mu: null,
      minimizer: [1, 1],
      spectrum: spectrum,
      axes: [[-steep[1], steep[0]], steep],
    };
  }

  /** The function of Lessard, Recht and Packard on a line: mu = 1, L = 25. */
  function lessard() {
    return {
      dimension: 1,
      value: function (p) {
        const x = p[0];
        if (x < 1) return 12.5 * x * x;
        if (x < 2) return 0.5 * x * x + 24 * x - 12;
        return 12.5 * x * x - 24 * x + 36;
      },
      grad: function (p) {
        const x = p[0];
        if (x < 1) return [25 * x];
        if (x < 2) return [x + 24];
        return [25 * x - 24];
      },
      L: 25,
      mu: 1,
      minimizer: [0],
      spectrum: [1, 25],
      axes: [[1]],
    };
  }

  function problem(name, kappa) {
    if (name === "quadratic") return quadratic(kappa);
    return name === "rosenbrock" ? rosenbrock() : lessard();
  }

  // --- ngs.schedules ----------------------------------------------------------------------------

  const lambdas = [1];

  function nesterovLambda(k) {
    while (lambdas.length < k) {
      const last = lambdas[lambdas.length - 1];
      lambdas.push((1 + Math.sqrt(1 + 4 * (last * last))) / 2);
    }
    return lambdas[k - 1];
  }

  /** beta_0 = 0, beta_t = (lambda_t - 1) / lambda_{t+1} */
  const nesterovMomentum = (t) =>
    t === 0 ? 0 : (nesterovLambda(t) - 1) / nesterovLambda(t + 1);

  // --- ngs.theory -------------------------------------------------------------------------------

  const BOUNDS = {
    gradient_descent: (k, L, R) => (L * (R * R)) / (4 * k + 2),
    nesterov: (k, L, R) => (L * (R * R)) / (2 * (nesterovLambda(k) * nesterovLambda(k))),
    strongly_convex: (k, L, R, mu) =>
      Math.pow(1 - Math.sqrt(mu / L), k) * 0.5 * (L + mu) * (R * R),
  };

  /** The coefficients with which heavy ball is fastest on quadratics. */
  function heavyBallOptimum(L, mu) {
    const sum = Math.sqrt(L) + Math.sqrt(mu);
    const rate = (Math.sqrt(L) - Math.sqrt(mu)) / sum;
    return { lr: (2 / sum) * (2 / sum), momentum: rate * rate, rate: rate };
  }

  /** The constant momentum of Nesterov's method for strongly convex functions. */
  const stronglyConvexMomentum = (kappa) => (Math.sqrt(kappa) - 1) / (Math.sqrt(kappa) + 1);

  /** The largest absolute eigenvalue of what one step is on lambda theta^2 / 2. */
  function spectralRadius(name, eigenvalue, lr, momentum) {
    const method = METHODS[name];
    const column = function (theta, velocity) {
      const state = { theta: [theta], velocity: [velocity] };
      const grad = scale(eigenvalue, method.gradientPoint(state, momentum));
      const after = method.step(state, grad, lr, momentum);
      return [after.theta[0], after.velocity[0]];
    };
    const [a, c] = column(1, 0);
    if (!method.moves) return Math.abs(a); // the velocity is a by-product, not part of the state
    const [b, d] = column(0, 1);
    const half = (a + d) / 2;
    const square = ((a - d) / 2) * ((a - d) / 2) + b * c;
    if (square < 0) return Math.sqrt(Math.max(a * d - b * c, 0));
    return Math.abs(half) + Math.sqrt(square);
  }

  /** The rate on quadratics whose curvatures lie between the ends of a spectrum.
   *
   * The ends decide: for both methods the radius has its largest value on an interval of curvatures
   * at one of them (chapter 2).
   */
  function rate(name, spectrum, lr, momentum) {
    return Math.max(
      spectralRadius(name, spectrum[0], lr, momentum),
      spectralRadius(name, spectrum[1], lr, momentum)
    );
  }

  // --- ngs.factor: AngleRule with its defaults --------------------------------------------------

  const ANGLE = {
    gain: 0.5, share: 0.25, patience: 3, down: 0.5, smoothing: 0.8, start: 0.1, hold: 0.5,
    spike: 2, memory: 0.9, minimum: 1e-6, maximum: 1e6,
  };
  const FACTOR = {
    factor: 1, damping: 1, peak: 0, cosine: 0, reference: 0, crossings: 0, side: 0, meanSquare: 0,
  };
  const clipped = (x, lowest, highest) => Math.min(Math.max(x, lowest), highest);

  function cosineOf(inner, gradSquare, directionSquare) {
    const norms = Math.sqrt(gradSquare) * Math.sqrt(directionSquare);
    if (!(Number.isFinite(inner) && Number.isFinite(norms) && norms > 0)) return null;
    return clipped(inner / norms, -1, 1);
  }

  function steer(state, cosine) {
    const kept = state.side === 0 ? 0 : ANGLE.smoothing;
    const mean = kept * state.cosine + (1 - kept) * cosine;
    const reference = Math.max(state.reference, mean);
    const error = cosine + ANGLE.share * reference;
    const side = error > 0 ? 1 : -1;
    const crossings = side * state.side < 0 ? state.crossings + 1 : state.crossings;
    const slowed = ANGLE.gain / (1 + crossings / ANGLE.patience);
    const gain = slowed * (error > 0 ? 1 : ANGLE.down);
    return Object.assign({}, state, {
      factor: state.factor * Math.exp(gain * error),
      cosine: mean,
      reference: reference,
      crossings: crossings,
      side: side,
    });
  }

  /** The next state of the factor; signal holds inner, gradSquare, directionSquare and lr. */
  function angleRule(state, signal) {
    const lr = signal.lr;
    if (!(lr > 0 && Number.isFinite(lr))) return Object.assign({}, state, { damping: 1 });
    let after = Object.assign({}, state);
    if (lr > state.peak) {
      after.factor = state.factor * (state.peak === 0 ? ANGLE.start : state.peak / lr);
      after.peak = lr;
    }
    const cosine = cosineOf(signal.inner, signal.gradSquare, signal.directionSquare);
    if (cosine !== null && lr >= ANGLE.hold * after.peak) after = steer(after, cosine);
    const square = signal.gradSquare;
    const usable = square > 0 && Number.isFinite(square);
    const known = usable && state.meanSquare !== 0;
    const longest = ANGLE.spike * ANGLE.spike * state.meanSquare;
    after.factor = clipped(after.factor, ANGLE.minimum, ANGLE.maximum);
    after.damping = known ? Math.min(1, Math.sqrt(longest / square)) : 1;
    if (known) {
      const keptSquare = Math.min(square, longest);
      after.meanSquare = ANGLE.memory * state.meanSquare + (1 - ANGLE.memory) * keptSquare;
    } else if (usable) {
      after.meanSquare = square;
    }
    return after;
  }

  // --- noise: a generator small enough to be written twice --------------------------------------

  /** Uniform numbers in [0, 1) by mulberry32. */
  function uniform(seed) {
    let state = seed >>> 0;
    return function () {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  /** Normal numbers by the formula of Box and Muller. */
  function normal(seed) {
    const draw = uniform(seed);
    return function () {
      const radius = Math.sqrt(-2 * Math.log(1 - draw()));
      return radius * Math.cos(2 * Math.PI * draw());
    };
  }

  // --- ngs.minimize -----------------------------------------------------------------------------

  const DIVERGED = 1e12;

  /** Run a method; return iterates, values, learning rates, restarts and how it ended.
   *
   * settings: method, f, theta, lr, momentum (a number, or "nesterov" for Nesterov's sequence),
   * steps, restart ("none", "function", "gradient"), noise (standard deviation of each entry of
   * the gradient), seed.
   */
  function run(settings) {
    const method = METHODS[settings.method];
    const f = settings.f;
    const draw = normal(settings.seed || 0);
    const momentumAt =
      settings.momentum === "nesterov" ? nesterovMomentum : () => settings.momentum;
    // NGS knows one kind of restart: after the other its factor would have no angle to learn from.
    const restart = method.learns && settings.restart !== "none" ? "gradient" : settings.restart;
    let state = start(settings.theta);
    let factor = FACTOR;
    let clock = 0;
    const iterates = [settings.theta];
    const values = [f.value(settings.theta)];
    const rates = [];
    const restarts = [];
    const ceiling = DIVERGED * Math.max(values[0], Number.MIN_VALUE);
    let diverged = false;
    for (let t = 0; t < settings.steps; t++) {
      const beta = momentumAt(clock);
      let grad = f.grad(method.gradientPoint(state, beta));
      if (settings.noise > 0) grad = grad.map((g) => g + settings.noise * draw());
      let lr = settings.lr;
      if (method.learns) {
        factor = angleRule(factor, {
          inner: -dot(grad, state.velocity),
          gradSquare: dot(grad, grad),
          directionSquare: dot(state.velocity, state.velocity),
          lr: lr,
        });
        lr = lr * factor.factor * factor.damping;
      }
      rates.push(lr);
      state = method.step(state, grad, lr, beta);
      iterates.push(state.theta);
      values.push(f.value(state.theta));
      clock += 1;
      if (!(values[t + 1] <= ceiling)) {
        diverged = true;
        break;
      }
      if (method.moves && harmful(restart, values, grad, iterates)) {
        state = start(state.theta);
        clock = 0;
        restarts.push(t);
      }
    }
    return { iterates, values, rates, restarts, diverged };
  }

  function harmful(scheme, values, grad, iterates) {
    const last = values.length - 1;
    if (scheme === "function") return values[last] > values[last - 1];
    return scheme === "gradient" && dot(grad, subtract(iterates[last], iterates[last - 1])) > 0;
  }

  return {
    METHODS, BOUNDS, problem, run, rate, spectralRadius, heavyBallOptimum,
    stronglyConvexMomentum, nesterovLambda, nesterovMomentum, normal, dot, subtract,
  };
})();
