// The bridge to Python: finding it, talking to it, running jobs in it.
export {
  childEnvironment,
  noTelemetry,
  passVariable,
  silenceTelemetry,
} from './environment.ts';
export { type JobEvent, type RunJobOptions, runJob } from './job.ts';
export { privateFolder } from './private-folder.ts';
export {
  type FindPythonOptions,
  findPython,
  type Python,
  type PythonAttempt,
  type PythonSource,
  pythonEnvironment,
  requiredModules,
} from './python.ts';
export { type Service, type ServiceExit, type ServiceOptions, startService } from './service.ts';
export { PythonSession, type PythonSessionOptions } from './session.ts';
