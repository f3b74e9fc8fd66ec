// What both languages' readers say of a source file: enough to follow an error's text to its words.

/** An expression, as far as the text of an error may depend on it. */
export type Expr =
  | { kind: 'text'; value: string }
  | { kind: 'parts'; of: Expr[] } // a template, or strings added up
  | { kind: 'name'; name: string }
  | { kind: 'member'; object: Expr; key: Expr }
  | { kind: 'object'; fields: Record<string, Expr> }
  | { kind: 'either'; of: Expr[] } // a ? b : c, b ?? c
  | { kind: 'unknown' };

export interface FunctionModel {
  name: string;
  params: string[];
  /** What a parameter is where a call gives none. */
  defaults: Record<string, Expr>;
  /** Local names bound to an expression, each with every value that it is given. */
  locals: Record<string, Expr[]>;
  /** Index of the enclosing function; -1 at the top of the module. */
  parent: number;
}

export interface CallModel {
  callee: string;
  args: Expr[];
  named: Record<string, Expr>;
  /** Index of the function that the call stands in; -1 at the top of the module. */
  inside: number;
}

/** A place that makes an error. */
export interface SiteModel {
  code: Expr;
  message?: Expr;
  fix?: Expr | undefined;
  inside: number;
  /** Nothing fails there: an event that warns. */
  warns?: boolean;
}

export interface SourceModel {
  path: string;
  constants: Record<string, Expr>;
  /** Local name -> the name in the module that it comes from, and that module's. */
  imports: Record<string, { name: string; from: string }>;
  functions: FunctionModel[];
  calls: CallModel[];
  sites: SiteModel[];
}
